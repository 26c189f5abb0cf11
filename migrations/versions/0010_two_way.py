"""Integrations that go both ways."""

from alembic import op

from migrations.scripts import run_script

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add ways back, and what both sides of a pair have agreed on."""
    op.execute("set role contactsync_owner")
    run_script("20_two_way.sql")
    op.execute("reset role")  # Alembic keeps its own version table as who it logged in as.


def downgrade() -> None:
    """Refuse: what was agreed on could not be known again."""
    message = "0010 has no way back: restore a backup"
    raise NotImplementedError(message)
