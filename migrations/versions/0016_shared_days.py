"""Days whose calls all workspaces share."""

from alembic import op

from migrations.scripts import run_script

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Divide such days between the workspaces."""
    op.execute("set role contactsync_owner")
    run_script("26_shared_days.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Count a day for whoever comes first again; the day under way keeps its count."""
    for function in (
        "count_share(text, text, integer, integer, timestamptz, boolean)",
        "divide_day(text, timestamptz, integer, integer)",
        "day_left(timestamptz)",
    ):
        op.execute(f"drop function limits.{function}")
    op.execute("drop table limits.day_shares")
