"""What tenants used and may use: quotas, the ledger of what was reserved and settled."""

from pathlib import Path

from nexusrag.infra import walls

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TENANT_TABLES = ("quota_limits", "usage_periods", "ledger", "ledger_lines")
# SECURITY DEFINER: they look across tenants.
FUNCTIONS = (
    "usage_flush_plain(text[], date[], bigint[])",
    "ledger_expired(integer)",
    "ledger_estimates(text, interval, interval, integer)",
    "usage_unrecorded(integer)",
    "usage_prune(integer)",
)
# Run as whoever asks.
_CAPS = "bigint, bigint, bigint, bigint, numeric, boolean"
PLAIN = (
    "usage_lock(text, date)",
    f"usage_admit(text, date, bigint, bigint, numeric, boolean, boolean, {_CAPS})",
    f"ledger_reserve(text, text, text, integer, bigint, numeric, interval, text, text, timestamp with time zone, boolean, {_CAPS})",
    "ledger_write_lines(text, text, text, date, timestamp with time zone, jsonb)",
    "usage_add(text, date, bigint, bigint, bigint, bigint, numeric, numeric)",
    "ledger_total(jsonb)",
    "ledger_settle(text, text, bigint, boolean, jsonb, boolean)",
    "ledger_charge(text, text, text, bigint, boolean, jsonb, text, text, timestamp with time zone)",
    "usage_note_once(text, text, text, timestamp with time zone)",
    "usage_give_back(text, date, bigint)",
)


def upgrade() -> None:
    walls.run(Path(__file__).with_suffix(".sql"))
    walls.own_rows(TENANT_TABLES)
    walls.allow_calls((*FUNCTIONS, *PLAIN))


def downgrade() -> None:
    raise RuntimeError("What was used and agreed would be lost; restore a backup instead.")
