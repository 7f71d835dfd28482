"""Embedding spaces: registering a model makes its index only where that takes a moment."""

from pathlib import Path

from sqlalchemy.util import await_only

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Nothing to undo: the former release calls the function in the same way."""
