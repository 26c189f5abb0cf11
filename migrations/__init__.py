"""The database's history: schemas, tables, roles and functions, one Alembic history for all.

The SQL itself is in `migrations/sql`, a file a schema; a version says which files it runs.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config


def upgrade(url: str) -> None:
    """Bring the database at `url` (its owner's address) to the newest version."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent))
    settings.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(settings, "head")
