"""What tenants used and may use: quotas, the ledger of what was reserved and settled."""

from pathlib import Path

from sqlalchemy.util import await_only

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TENANT_TABLES: tuple[str, ...] = ("quota_limits", "usage_periods", "ledger", "ledger_lines")
PLATFORM_TABLES: tuple[str, ...] = ()
# SECURITY DEFINER: they look across tenants.
FUNCTIONS: tuple[str, ...] = (
    "usage_flush_plain(text[], date[], bigint[])",
    "ledger_expired(integer)",
    "ledger_estimates(text, interval, interval, integer)",
    "usage_prune(integer)",
)
# Run as whoever asks.
_CAPS = "bigint, bigint, bigint, bigint, numeric, boolean"
PLAIN: tuple[str, ...] = (
    "usage_lock(text, date)",
    f"usage_admit(text, date, bigint, bigint, numeric, boolean, boolean, {_CAPS})",
    f"ledger_reserve(text, text, text, integer, bigint, numeric, interval, text, text, timestamp with time zone, boolean, {_CAPS})",
    "ledger_write_lines(text, text, text, date, timestamp with time zone, jsonb)",
    "ledger_total(jsonb)",
    "ledger_settle(text, text, bigint, boolean, jsonb, boolean)",
    "ledger_charge(text, text, text, bigint, boolean, jsonb, text, text, timestamp with time zone)",
    "usage_note_once(text, text, text, timestamp with time zone)",
    "usage_give_back(text, date, bigint)",
)
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
