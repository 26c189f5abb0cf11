"""Stopping what a workspace's plan does not have any more."""

from alembic import op

from migrations.scripts import run_script

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let the operator's role stop an integration."""
    op.execute("set role contactsync_owner")
    run_script("24_stop_for_plan.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Take the function away: what was stopped stays so until somebody resumes it."""
    op.execute("drop function sync.stop(uuid, bytea)")
