"""Embedding spaces: registering a model makes its index only where that takes a moment."""

from pathlib import Path

from nexusrag.infra import walls

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    walls.run(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Nothing to undo: the former release calls the function in the same way."""
