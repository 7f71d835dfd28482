"""What use costs: prices, budgets, chargeback reports."""

from pathlib import Path

from nexusrag.infra import walls

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TENANT_TABLES = ("prices", "budgets", "chargeback_reports")
# SECURITY DEFINER: they look across tenants.
FUNCTIONS = ("costs_spend(text[], date)", "costs_stored(text, integer)")


def upgrade() -> None:
    walls.run(Path(__file__).with_suffix(".sql"))
    walls.own_rows(TENANT_TABLES)
    walls.allow_calls(FUNCTIONS)


def downgrade() -> None:
    raise RuntimeError("What was used and agreed would be lost; restore a backup instead.")
