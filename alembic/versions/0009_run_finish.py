"""The end of a run as one call."""

from pathlib import Path

from alembic import op
from nexusrag.infra import walls

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_FINISH = "run_finish(text, text, integer, text, text, text, integer[], text[], text[], text[], text[], bigint, boolean, text)"
# With the rights of its caller: row-level security binds what it writes, as it does after any other way into a tenant.
INVOKERS = (_FINISH,)


def upgrade() -> None:
    walls.run(Path(__file__).with_suffix(".sql"))
    walls.allow_calls(INVOKERS)


def downgrade() -> None:
    op.execute(f"drop function {_FINISH}")
