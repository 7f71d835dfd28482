"""Service levels: policies, assignments, measurements, incidents, autoscaling."""

from pathlib import Path

from sqlalchemy.util import await_only

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TENANT_TABLES: tuple[str, ...] = (
    "sla_policies", "sla_assignments", "sla_measurements", "sla_states", "sla_incidents", "autoscaling_profiles", "autoscaling_actions",
)  # fmt: skip
PLATFORM_TABLES: tuple[str, ...] = ("sla_totals", "sla_reporters")
# SECURITY DEFINER: they look across tenants.
FUNCTIONS: tuple[str, ...] = (
    "sla_policy_global_put(text, text, text, integer, boolean, jsonb, text)",
    "sla_record(text, text[], text[], timestamp with time zone[], integer[], integer[], bytea[], bytea[])",
    "sla_directory()",
    "sla_due(timestamp with time zone, integer)",
    "sla_prune(interval, integer)",
    "autoscaling_take(interval, integer)",
)
# Run as whoever asks.
PLAIN: tuple[str, ...] = ()
SCRIPT = Path(__file__).with_suffix(".sql")
OWN = "= nullif(current_setting('app.tenant', true), '')"


def upgrade() -> None:
    await_only(op.get_bind().connection.driver_connection.execute(SCRIPT.read_text()))
    for table in TENANT_TABLES:
        _wall(table, f"tenant_id {OWN}")
    # Every tenant can be under a policy of the platform and reads it; only operators write it (sla_policy_global_put).
    op.execute("create policy of_platform on sla_policies for select to nexusrag_app using (tenant_id is null)")
    for table in (*TENANT_TABLES, *PLATFORM_TABLES):
        op.execute(f"grant select, insert, update, delete on {table} to nexusrag_app")
    for function in (*FUNCTIONS, *PLAIN):
        op.execute(f"grant execute on function {function} to nexusrag_app")


def downgrade() -> None:
    raise RuntimeError("What was used and agreed would be lost; restore a backup instead.")


def _wall(table: str, using: str) -> None:
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"create policy tenant on {table} to nexusrag_app using ({using}) with check ({using})")
    op.execute(f"create policy system on {table} to nexusrag_system using (true) with check (true)")
