"""What the planner should not choose: indexes that look small, and tables that look alike."""

from pathlib import Path

from alembic import op
from nexusrag.infra import walls

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    walls.run(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:  # indexes and functions serve the version before as well
    op.execute("alter table ledger_lines add constraint ledger_lines_tenant_id_fkey foreign key (tenant_id) references tenants (id)")
