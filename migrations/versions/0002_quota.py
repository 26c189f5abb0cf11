"""The quota as its users know it: requests for more, readers of mails, reconciliation."""

from alembic import op

from migrations.scripts import run_script

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCRIPTS = (
    "09_quota_requests.sql",
    "10_readers.sql",
    "11_reconciliation.sql",
    "12_resuming.sql",
)


def upgrade() -> None:
    """Add what issue after issue asked of the quota."""
    op.execute("set role contactsync_owner")
    for name in SCRIPTS:
        run_script(name)
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: a ledger is not turned back."""
    message = "0002 has no way back: restore a backup"
    raise NotImplementedError(message)
