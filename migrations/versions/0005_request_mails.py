"""Mails about requests that are closed before they could be sent."""

from alembic import op

from migrations.scripts import run_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what the notifier asks of a request."""
    op.execute("set role contactsync_owner")
    run_script("15_request_mails.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Take it away again: mails about closed requests are sent."""
    op.execute("drop function config.is_request_closed")
