"""Files that people upload."""

from alembic import op

from migrations.scripts import run_script

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add uploaded files and their chunks."""
    op.execute("set role contactsync_owner")
    run_script("17_imports.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: uploaded files would be lost."""
    message = "0007 has no way back: restore a backup"
    raise NotImplementedError(message)
