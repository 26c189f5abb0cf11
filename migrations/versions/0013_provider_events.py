"""Events that providers send us."""

from alembic import op

from migrations.scripts import run_script

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add subscriptions to events, and what a hint does."""
    op.execute("set role contactsync_owner")
    run_script("23_provider_events.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: subscriptions could not be ended at their providers."""
    message = "0013 has no way back: restore a backup"
    raise NotImplementedError(message)
