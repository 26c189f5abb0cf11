"""Accounts whose address comes with their tokens."""

from alembic import op

from migrations.scripts import run_script

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Store where an account is called together with its tokens."""
    op.execute("set role contactsync_owner")
    run_script("16_moving_accounts.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: processes of this version would not be able to store tokens."""
    message = "0006 has no way back: restore a backup"
    raise NotImplementedError(message)
