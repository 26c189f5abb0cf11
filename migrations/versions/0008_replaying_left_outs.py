"""Who was read since is not replayed."""

from alembic import op

from migrations.scripts import run_script

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let a replay leave out whoever was read since, as the list does."""
    op.execute("set role contactsync_owner")
    run_script("18_replaying_left_outs.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: the function before counted whom nobody left out."""
    message = "0008 has no way back: restore a backup"
    raise NotImplementedError(message)
