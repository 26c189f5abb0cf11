"""The claim by which a run was read to its end."""

from alembic import op

from migrations.scripts import run_script

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the claim to what is known of a run."""
    op.execute("set role contactsync_owner")
    run_script("19_newest_run_read.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Take it away again: what was told last counts."""
    op.execute("alter table activity.runs drop column fencing")
