"""Who may do what: custom roles, groups, grants on corpora, policies, plans, and every kind of credential beside API keys."""

from pathlib import Path

from alembic import op
from nexusrag.infra import walls

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


def upgrade() -> None:
    walls.run(HERE / "0004_identity.sql")
    walls.own_rows(TENANT_TABLES)
    # Every tenant is bound by the platform's policies and reads them; only the platform writes them (policy_global_put).
    walls.wall("policies", f"tenant_id {walls.OWN}")
    op.execute("create policy of_platform on policies for select to nexusrag_app using (tenant_id is null)")
    walls.allow_rows("policies")
    walls.allow_rows("login_attempts")
    walls.run(HERE / "0004_functions.sql")
    walls.allow_calls((*FUNCTIONS, *PLAIN))


def downgrade() -> None:
    raise RuntimeError("Credentials and grants would be lost; restore a backup instead.")
