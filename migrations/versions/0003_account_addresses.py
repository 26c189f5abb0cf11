"""Accounts that have an address of their own."""

from alembic import op

from migrations.scripts import run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add where an account is called, beside whose it is."""
    op.execute("set role contactsync_owner")
    run_script("13_account_addresses.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: connections would lead nowhere."""
    message = "0003 has no way back: restore a backup"
    raise NotImplementedError(message)
