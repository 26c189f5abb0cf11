"""Who holds an address, found by the address first."""

from alembic import op

from migrations.scripts import run_script

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes of addresses anew: some 2 s a million links, locked."""
    op.execute("set role contactsync_owner")
    run_script("25_addresses_first.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: the statements of this version need these indexes."""
    message = "0015 has no way back: restore a backup"
    raise NotImplementedError(message)
