"""Who may do what: custom roles, groups, grants on corpora, policies, plans, and every kind of credential beside API keys."""

from pathlib import Path

from sqlalchemy.util import await_only

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TENANT_TABLES = (
    "custom_roles", "groups", "group_members", "corpus_permissions", "auth_sessions", "refresh_tokens", "invitations",
    "identity_providers", "user_identities", "scim_tokens", "role_changes", "tenant_plans", "feature_overrides", "plan_upgrade_requests",
)  # fmt: skip
PLATFORM_TABLES = ("login_attempts",)
FUNCTIONS = (
    "auth_key(bytea)",
    "auth_session(text, bytea)",
    "auth_scim(bytea)",
    "auth_password(text, text, text)",
    "auth_refresh(bytea)",
    "auth_invitation(bytea)",
    "tenant_open(text, text)",
    "accounts_sweep(interval, integer)",
    "auth_provider(text)",
    "tenant_directory(text)",
    "policy_global_put(text, text, text, text, text, jsonb, integer, boolean, text)",
)
# Run as whoever asks.
PLAIN = (
    "auth_person(text, text)",
    "policy_eq(jsonb, jsonb)",
    "policy_less(jsonb, jsonb, boolean)",
    "policy_in(jsonb, jsonb)",
    "policy_contains(jsonb, jsonb)",
    "policy_among(jsonb, jsonb)",
    "policy_starts(jsonb, jsonb)",
    "policy_matches(jsonb, text)",
)
HERE = Path(__file__).parent
OWN = "= nullif(current_setting('app.tenant', true), '')"


def upgrade() -> None:
    _run((HERE / "0004_identity.sql").read_text())
    for table in TENANT_TABLES:
        _wall(table, f"tenant_id {OWN}")
        op.execute(f"grant select, insert, update, delete on {table} to nexusrag_app")
    # Every tenant is bound by the platform's policies and reads them; only the platform writes them (policy_global_put).
    _wall("policies", f"tenant_id {OWN}")
    op.execute("create policy of_platform on policies for select to nexusrag_app using (tenant_id is null)")
    op.execute("grant select, insert, update, delete on policies to nexusrag_app")
    op.execute("grant select, insert, update, delete on login_attempts to nexusrag_app")
    _run((HERE / "0004_functions.sql").read_text())
    for function in (*FUNCTIONS, *PLAIN):
        op.execute(f"grant execute on function {function} to nexusrag_app")


def downgrade() -> None:
    raise RuntimeError("Credentials and grants would be lost; restore a backup instead.")


def _wall(table: str, using: str) -> None:
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"create policy tenant on {table} to nexusrag_app using ({using}) with check ({using})")
    op.execute(f"create policy system on {table} to nexusrag_system using (true) with check (true)")


def _run(script: str) -> None:
    """Several statements at once: the driver's simple protocol takes a whole script."""
    await_only(op.get_bind().connection.driver_connection.execute(script))
