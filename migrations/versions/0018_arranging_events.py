"""When an account was last asked to send its events."""

from alembic import op

from migrations.scripts import run_script

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the time of the last try."""
    op.execute("set role contactsync_owner")
    run_script("28_arranging_events.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Forget it."""
    op.execute(
        "revoke select (connection_id, url) on config.event_subscriptions from contactsync_operator"
    )
    op.execute("alter table config.connections drop column events_tried_at")
