"""Service levels: policies, assignments, measurements, incidents, autoscaling."""

from pathlib import Path

from alembic import op
from nexusrag.infra import walls

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TENANT_TABLES = (
    "sla_policies", "sla_assignments", "sla_measurements", "sla_states", "sla_incidents", "autoscaling_profiles", "autoscaling_actions",
)  # fmt: skip
PLATFORM_TABLES = ("sla_totals", "sla_reporters")
# SECURITY DEFINER: they look across tenants.
FUNCTIONS = (
    "sla_policy_global_put(text, text, text, integer, boolean, jsonb, text)",
    "sla_overrides(text)",
    "sla_record(text, text[], text[], timestamp with time zone[], integer[], integer[], bytea[], bytea[])",
    "sla_directory()",
    "sla_due(timestamp with time zone, integer)",
    "sla_unbound(integer)",
    "sla_breached_with(text, text, boolean)",
    "sla_prune(interval, integer)",
    "autoscaling_take(interval, integer)",
)


def upgrade() -> None:
    walls.run(Path(__file__).with_suffix(".sql"))
    walls.own_rows(TENANT_TABLES)
    # Every tenant can be under a policy of the platform and reads it; only operators write it (sla_policy_global_put).
    op.execute("create policy of_platform on sla_policies for select to nexusrag_app using (tenant_id is null)")
    for table in PLATFORM_TABLES:
        walls.allow_rows(table)
    walls.allow_calls(FUNCTIONS)


def downgrade() -> None:
    raise RuntimeError("What was used and agreed would be lost; restore a backup instead.")
