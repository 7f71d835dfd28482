"""The spine: tenants, credentials, corpora, documents, index, jobs, runs, audit, idempotency, and the two walls between tenants."""

from pathlib import Path

from alembic import op
from nexusrag.infra import walls

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


def upgrade() -> None:
    walls.run(HERE / "0001_spine.sql")
    walls.own_rows(TENANT_TABLES)
    walls.wall("tenants", f"id {walls.OWN}")
    op.execute("grant select, update on tenants to nexusrag_app")
    # A failed login belongs to no tenant: it may be written by anyone and read by no tenant.
    walls.wall("audit_events", f"tenant_id {walls.OWN}", f"tenant_id {walls.OWN} or tenant_id is null")
    op.execute("grant select, insert on audit_events to nexusrag_app")
    op.execute("grant select on embedding_spaces to nexusrag_app")
    walls.allow_rows("workers")
    walls.run(HERE / "0001_functions.sql")
    walls.allow_calls(FUNCTIONS)
    op.execute("select partitions_roll(interval '2 days')")


def downgrade() -> None:
    raise RuntimeError("The first migration cannot be undone; restore a backup or drop the database.")
