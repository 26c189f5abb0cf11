"""A workspace's month is counted up as a transaction commits."""

from alembic import op

from migrations.scripts import run_script

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give the ledger's functions a trigger that counts for them."""
    op.execute("set role contactsync_owner")
    run_script("21_shared_row_last.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: a ledger is not turned back."""
    message = "0011 has no way back: restore a backup"
    raise NotImplementedError(message)
