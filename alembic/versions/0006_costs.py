"""What use costs: prices, budgets, chargeback reports."""

from pathlib import Path

from sqlalchemy.util import await_only

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TENANT_TABLES: tuple[str, ...] = ("prices", "budgets", "chargeback_reports")
PLATFORM_TABLES: tuple[str, ...] = ()
# SECURITY DEFINER: they look across tenants.
FUNCTIONS: tuple[str, ...] = ("costs_spend(text[], date)", "costs_stored(text, integer)")
# Run as whoever asks.
PLAIN: tuple[str, ...] = ()
SCRIPT = Path(__file__).with_suffix(".sql")
OWN = "= nullif(current_setting('app.tenant', true), '')"


def upgrade() -> None:
    await_only(op.get_bind().connection.driver_connection.execute(SCRIPT.read_text()))
    for table in TENANT_TABLES:
        _wall(table, f"tenant_id {OWN}")
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
