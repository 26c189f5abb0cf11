"""Everything the main job needs: roles, schemas, tables, functions."""

from alembic import op

from migrations.scripts import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCRIPTS = (
    "01_roles.sql",
    "02_config.sql",
    "03_ledger.sql",
    "04_limits.sql",
    "05_sync.sql",
    "06_delivery.sql",
    "07_notices.sql",
    "08_activity.sql",
)


def upgrade() -> None:
    """Make what is there now."""
    for name in SCRIPTS:
        run_script(name)
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Drop every schema; roles are the cluster's and stay."""
    for schema in ("activity", "notices", "delivery", "sync", "limits", "ledger", "config"):
        op.execute(f"drop schema {schema} cascade")
