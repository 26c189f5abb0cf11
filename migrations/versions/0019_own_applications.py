"""Connections by an application of the workspace's own."""

from alembic import op

from migrations.scripts import run_script

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the application of a connection, and divide a day among those who share one."""
    op.execute("set role contactsync_owner")
    run_script("29_own_applications.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: what was granted to an application is of no use to another."""
    message = "0019 has no way back: restore a backup"
    raise NotImplementedError(message)
