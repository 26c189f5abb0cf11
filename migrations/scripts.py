"""Running an SQL file inside a migration.

asyncpg prepares what SQLAlchemy sends, and a prepared statement is one statement; a file of many
goes through the driver's own simple-query call, in the transaction that Alembic opened.
"""

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

SQL = Path(__file__).parent / "sql"


def run_script(name: str) -> None:
    """Execute every statement of `migrations/sql/<name>`."""
    bind = op.get_bind()
    bind.exec_driver_sql("select 1")  # The driver begins its transaction with the first statement.
    driver = bind.connection.driver_connection
    assert driver is not None
    await_only(driver.execute((SQL / name).read_text()))
