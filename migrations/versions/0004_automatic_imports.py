"""Automatic imports, shares in a sync, and who was left out of one."""

from alembic import op

from migrations.scripts import run_script

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what automatic imports need, and the list of who was left out."""
    op.execute("set role contactsync_owner")
    run_script("14_automatic_imports.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: automatic imports would have no mapping that a person could change."""
    message = "0004 has no way back: restore a backup"
    raise NotImplementedError(message)
