"""Who is refused calls more slowly for a while."""

from alembic import op

from migrations.scripts import run_script

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep the share of a pace that a provider's refusals have left."""
    op.execute("set role contactsync_owner")
    run_script("22_slower_after_refusals.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: the functions before would leave columns that nobody reads."""
    message = "0012 has no way back: restore a backup"
    raise NotImplementedError(message)
