"""A writer's reservation as one statement."""

from alembic import op

from migrations.scripts import run_script

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the function that keeps the lease, holds units and says whose they are."""
    op.execute("set role contactsync_owner")
    run_script("27_reserving_at_once.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: the writer of this version reserves by it."""
    message = "0017 has no way back: restore a backup"
    raise NotImplementedError(message)
