"""The spine: tenants, credentials, corpora, documents, index, jobs, runs, audit, idempotency, and the two walls between tenants."""

from pathlib import Path

from sqlalchemy.util import await_only

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Tables in which every row belongs to one tenant.
TENANT_TABLES = (
    "users", "api_keys", "corpora", "documents", "document_permissions", "document_versions", "chunks", "embeddings", "postings",
    "jobs", "sessions", "messages", "runs", "run_events", "audio_files", "idempotency_keys",
)  # fmt: skip
PLATFORM_TABLES = ("embedding_spaces", "workers")
FUNCTIONS = (
    "auth_key(bytea)",
    "tenant_ensure(text, text)",
    "space_ensure(text, integer)",
    "jobs_claim(text, text, text[], integer, interval)",
    "jobs_renew(text[], integer[], interval)",
    "jobs_reap()",
    "jobs_depth(text)",
    "runs_renew(text[], text, interval)",
    "runs_take_abandoned(text, integer, interval)",
    "partitions_roll(interval)",
)
HERE = Path(__file__).parent
# What the application sees when no tenant is set is nothing, never everything.
OWN = "= nullif(current_setting('app.tenant', true), '')"


def upgrade() -> None:
    _run((HERE / "0001_spine.sql").read_text())
    for table in TENANT_TABLES:
        _wall(table, f"tenant_id {OWN}")
        op.execute(f"grant select, insert, update, delete on {table} to nexusrag_app")
    _wall("tenants", f"id {OWN}")
    op.execute("grant select, update on tenants to nexusrag_app")
    # A failed login belongs to no tenant: it may be written by anyone and read by no tenant.
    _wall("audit_events", f"tenant_id {OWN}", f"tenant_id {OWN} or tenant_id is null")
    op.execute("grant select, insert on audit_events to nexusrag_app")
    op.execute("grant select on embedding_spaces to nexusrag_app")
    op.execute("grant select, insert, update, delete on workers to nexusrag_app")
    _run((HERE / "0001_functions.sql").read_text())
    for function in FUNCTIONS:
        op.execute(f"grant execute on function {function} to nexusrag_app")
    op.execute("select partitions_roll(interval '2 days')")


def downgrade() -> None:
    raise RuntimeError("The first migration cannot be undone; restore a backup or drop the database.")


def _wall(table: str, using: str, check: str | None = None) -> None:
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"create policy tenant on {table} to nexusrag_app using ({using}) with check ({check or using})")
    op.execute(f"create policy system on {table} to nexusrag_system using (true) with check (true)")


def _run(script: str) -> None:
    """Several statements at once: the driver's simple protocol takes a whole script."""
    await_only(op.get_bind().connection.driver_connection.execute(script))
