"""Switches that operators change at run time, and what maintenance did."""

from pathlib import Path

from nexusrag.infra import walls

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

PLATFORM_TABLES = ("flags", "maintenance_runs")
# SECURITY DEFINER: they look across tenants.
FUNCTIONS = (
    "idempotency_prune(interval, integer)",
    "audit_prune(interval, integer)",
    "jobs_prune(text[], boolean, interval, integer)",
)


def upgrade() -> None:
    walls.run(Path(__file__).with_suffix(".sql"))
    for table in PLATFORM_TABLES:
        walls.allow_rows(table)
    walls.allow_calls(FUNCTIONS)


def downgrade() -> None:
    raise RuntimeError("What was used and agreed would be lost; restore a backup instead.")
