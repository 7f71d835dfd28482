"""The second wall, asked of the database's own catalogue: what is guarded, who may pass, and what happens to whoever tries."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import pytest
from sqlalchemy import select

from nexusrag.domains import DOMAINS
from nexusrag.infra.database import APP_ROLE, Database
from nexusrag.infra.migrate import SYSTEM_ROLE
from nexusrag.infra.models import Base, TenantScoped
from nexusrag.kernel.ids import new_id
from nexusrag.knowledge.corpora.models import Corpus
from tests.support.api import Api, Person
from tests.support.behind import count, rows

DENIED = asyncpg.InsufficientPrivilegeError


def migration(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MIGRATIONS = [migration(path) for path in sorted((Path(__file__).parents[2] / "alembic" / "versions").glob("*.py"))]


def listed(name: str) -> tuple[str, ...]:
    """What the migrations list under this name, together."""
    return tuple(one for module in MIGRATIONS for one in getattr(module, name, ()))


TENANT_TABLES: tuple[str, ...] = (*listed("TENANT_TABLES"), "audit_events", "policies")
_TABLES = (
    "select c.relname as name, c.relispartition as part, c.relrowsecurity as enabled, c.relforcerowsecurity as forced, "
    "exists (select 1 from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id') as scoped "
    "from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')"
)


async def test_the_reviewed_lists_name_every_table(api: Api) -> None:
    tables = [table for table in await rows(api, _TABLES) if not table["part"]]
    assert {table["name"] for table in tables if table["scoped"]} == set(TENANT_TABLES)
    assert {table["name"] for table in tables if not table["scoped"]} == {*listed("PLATFORM_TABLES"), "tenants", "alembic_version"}


async def test_every_tenants_table_is_walled_for_reading_and_writing(api: Api) -> None:
    tables = {table["name"]: table for table in await rows(api, _TABLES)}
    policies = await rows(api, "select tablename, policyname, roles::text[], cmd, permissive, qual, with_check from pg_policies")
    for name in (*TENANT_TABLES, "tenants"):
        assert tables[name]["enabled"], name
        assert tables[name]["forced"], name
        own = [policy for policy in policies if policy["tablename"] == name and APP_ROLE in policy["roles"]]
        # The platform's policies bind every tenant, which reads them and cannot write them.
        shared = [policy for policy in own if policy["policyname"] == "of_platform"]
        assert [(policy["tablename"], policy["cmd"], policy["qual"]) for policy in shared] == (
            [(name, "SELECT", "(tenant_id IS NULL)")] if name in ("policies", "sla_policies") else []
        )
        own = [policy for policy in own if policy not in shared]
        assert len(own) == 1, name
        assert (own[0]["cmd"], own[0]["roles"]) == ("ALL", [APP_ROLE])
        for condition in (own[0]["qual"], own[0]["with_check"]):
            assert "current_setting('app.tenant'" in condition, name
        everyone = [policy for policy in policies if policy["tablename"] == name and policy["roles"] not in ([APP_ROLE], [SYSTEM_ROLE])]
        assert everyone == []


async def test_partitions_are_reached_through_their_walled_parent_alone(api: Api) -> None:
    parts = [table["name"] for table in await rows(api, _TABLES) if table["part"]]
    assert any(name.startswith("run_events_") for name in parts)
    assert any(name.startswith("audit_events_") for name in parts)
    for name in parts:
        for privilege in ("select", "insert", "update", "delete", "truncate"):
            assert not await count(api, "select has_table_privilege($1, $2, $3)::int", APP_ROLE, name, privilege), name


async def test_the_application_owns_nothing_and_can_step_around_nothing(api: Api) -> None:
    (role,) = await rows(api, "select * from pg_roles where rolname = $1", APP_ROLE)
    for power in ("rolsuper", "rolbypassrls", "rolcanlogin", "rolcreaterole", "rolcreatedb", "rolreplication"):
        assert role[power] is False, power
    assert await count(api, "select count(*) from pg_class where pg_get_userbyid(relowner) = $1", APP_ROLE) == 0
    assert await count(api, "select count(*) from pg_proc where pg_get_userbyid(proowner) = $1", APP_ROLE) == 0
    assert (
        await count(api, "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.member where r.rolname = $1", APP_ROLE) == 0
    )
    assert not await count(api, "select has_schema_privilege($1, 'public', 'create')::int", APP_ROLE)
    for privilege in ("update", "delete", "truncate"):
        assert not await count(api, "select has_table_privilege($1, 'audit_events', $2)::int", APP_ROLE, privilege)
    for name in (*TENANT_TABLES, "tenants"):
        assert not await count(api, "select has_table_privilege($1, $2, 'truncate')::int", APP_ROLE, name)
    (system,) = await rows(api, "select rolsuper, rolbypassrls, rolcanlogin from pg_roles where rolname = $1", SYSTEM_ROLE)
    assert not any(system.values())


async def test_what_looks_across_tenants_is_the_reviewed_list(api: Api) -> None:
    functions = await rows(
        api,
        "select p.oid::regprocedure::text as name, p.prosecdef as definer, p.proconfig as config, pg_get_userbyid(p.proowner) as owner, "
        "has_function_privilege('public', p.oid, 'execute') as open from pg_proc p "
        "where p.pronamespace = 'public'::regnamespace "
        "and not exists (select 1 from pg_depend d where d.objid = p.oid and d.deptype = 'e')",
    )
    assert {function["name"].replace(",", ", ") for function in functions} == {
        *listed("FUNCTIONS"), *listed("PLAIN"), *listed("INVOKERS"),
    }  # fmt: skip
    for function in functions:
        assert function["owner"] == SYSTEM_ROLE, function
        assert not function["open"], function
        if function["name"].replace(",", ", ") in (*listed("PLAIN"), *listed("INVOKERS")):
            assert not function["definer"], function
            continue
        assert function["definer"], function
        assert function["config"] == ["search_path=public, pg_temp"], function


async def test_no_view_shows_what_a_table_hides(api: Api) -> None:
    views = await rows(
        api, "select c.relname from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('v', 'm', 'f')"
    )
    assert views == []


def test_every_entity_of_a_tenant_is_under_the_first_wall() -> None:
    entities = [mapper.class_ for mapper in Base.registry.mappers]
    assert {entity for domain in DOMAINS for entity in domain.models} == set(entities)
    for entity in entities:
        scoped = "tenant_id" in entity.__table__.columns
        assert scoped is issubclass(entity, TenantScoped), entity
        assert not scoped or entity.__tablename__ in TENANT_TABLES


@pytest.fixture
async def full(api: Api) -> tuple[Person, Person]:
    """Two tenants with rows in nearly every table."""
    people = await api.person(), await api.person()
    for person in people:
        corpus = await person.corpus(id="c")
        await person.text(corpus, f"Words of {person.tenant} alone.", document_id="d")
        await person.run(corpus, "Whose words?", audio=True, headers={"Idempotency-Key": "k"})
        for statement in _PEOPLE:
            await rows(api, statement, person.tenant, person.user_id, f"{person.tenant}-1")
    return people


# One row in each table of identity: tenant, a user of it, an id that no other tenant has.
_PEOPLE = (
    "insert into custom_roles (tenant_id, id, name, base, actions) values ($1, 'auditors', concat($2::text, $3::text), 'reader', '{}')",
    "insert into groups (tenant_id, id, display_name) values ($1, $3, $2)",
    "insert into group_members (tenant_id, group_id, user_id) values ($1, $3, $2)",
    "insert into corpus_permissions (tenant_id, id, corpus_id, principal_type, principal_id, permission) "
    "values ($1, $3, 'c', 'user', $2, 'read')",
    "insert into policies (tenant_id, id, name, effect, resource_type, action) values ($1, $3, $2, 'deny', 'document', 'delete')",
    "insert into auth_sessions (tenant_id, id, user_id, kind, expires_at) values ($1, $3, $2, 'password', now())",
    "insert into refresh_tokens (tenant_id, id, session_id, hash, expires_at) values ($1, $2, $3, convert_to($3, 'UTF8'), now())",
    "insert into invitations (tenant_id, id, email, role, hash, expires_at) values ($1, $3, $2, 'reader', convert_to($3, 'UTF8'), now())",
    "insert into identity_providers (tenant_id, id, type, name, issuer, client_id, client_secret_ref, auth_url, token_url, jwks_url, "
    "default_role) values ($1, $3, 'oidc', $2, '', '', '', '', '', '', 'reader')",
    "insert into user_identities (tenant_id, provider_id, subject, user_id) values ($1, $3, 's', $2)",
    "insert into scim_tokens (tenant_id, id, prefix, hash) values ($1, $3, $2, convert_to($3, 'UTF8'))",
    "insert into role_changes (tenant_id, id, user_id, role, requested_by, expires_at) values ($1, $3, $2, 'admin', '', now())",
    "insert into tenant_plans (tenant_id, plan_id, assigned_by) values ($1, 'enterprise', concat($2::text, $3::text))",
    "insert into feature_overrides (tenant_id, feature_key, updated_by) values ($1, 'feature.tts', concat($2::text, $3::text))",
    "insert into plan_upgrade_requests (tenant_id, target_plan, reason) values ($1, 'pro', concat($2::text, $3::text))",
    "insert into quota_limits (tenant_id, updated_by) values ($1, concat($2::text, $3::text))",
    "insert into usage_periods (tenant_id, period, starts_on, units) "
    "values ($1, 'day', date '2001-01-01', length(concat($2::text, $3::text))) on conflict do nothing",
    "insert into ledger (tenant_id, subject, route_class, state, day, user_id) values ($1, $3, 'run', 'settled', date '2001-01-01', $2)",
    "insert into ledger_lines (tenant_id, subject, day, route_class, component, provider, rate_type, quantity, usd, estimated) "
    "values ($1, $3, date '2001-01-01', 'run', 'llm', $2, 'per_1k_tokens', 1, 0, false)",
    "insert into prices (tenant_id, id, version, provider, component, rate_type, rate_value_usd, effective_from, active) "
    "values ($1, $3, 'v', $2, 'llm', 'per_mb', 1, now(), true)",
    "insert into budgets (tenant_id, updated_by) values ($1, concat($2::text, $3::text))",
    "insert into chargeback_reports (tenant_id, id, period_start, period_end, currency, total_usd, breakdown_json, generated_by) "
    "values ($1, $3, now(), now() + interval '1 day', 'USD', 0, '{}', $2)",
    "insert into sla_policies (tenant_id, id, name, tier, config) values ($1, $3, $2, 'pro', '{}')",
    "insert into sla_assignments (tenant_id, policy_id, updated_by) values ($1, $3, $2)",
    "insert into sla_measurements (tenant_id, route_class, window_start, process, count, failures, sketch, first_event) "
    "values ($1, $2, now(), $3, 1, 0, '', '') on conflict do nothing",
    "insert into sla_states (tenant_id, route_class, policy_id, policy_version, status, decision, window_end) "
    "values ($1, $2, $3, 1, 'healthy', 'allow', now())",
    "insert into sla_incidents (tenant_id, id, policy_id, policy_version, route_class, window_end) values ($1, $3, $2, 1, 'run', now())",
    "insert into autoscaling_profiles (tenant_id, id, name, scope, min_replicas, max_replicas, target_p95_ms, target_queue_depth, "
    "cooldown_seconds, step_up, step_down, enabled) values ($1, $3, $2, 'tenant', 1, 1, 1, 1, 1, 1, 1, false)",
    "insert into autoscaling_actions (tenant_id, id, profile_id, route_class, action, reason, current_replicas, recommended_replicas, "
    "status, executor, signals, created_by) values ($1, $3, $3, 'run', 'hold', '', 1, 1, 'recommended', 'noop', '{}', $2)",
)


async def test_without_a_tenant_there_is_nothing(api: Api, full: tuple[Person, Person]) -> None:
    async with api.resources.get(Database).work(None) as work:
        for table in (*TENANT_TABLES, "tenants"):
            # The platform's own service levels are everyone's to read, as its policies are.
            of_tenants = "where tenant_id is not null" if table == "sla_policies" else ""
            assert await work.raw.fetchval(f"select count(*) from {table} {of_tenants}") == 0, table
        assert (await work.session.scalars(select(Corpus))).all() == []


async def test_with_a_tenant_there_are_its_rows_alone(api: Api, full: tuple[Person, Person]) -> None:
    mine, theirs = full
    for table in TENANT_TABLES:
        assert await count(api, f"select count(*) from {table} where tenant_id = $1", theirs.tenant) > 0, table
        async with api.resources.get(Database).work(mine.tenant) as work:
            seen = {row["tenant_id"] for row in await work.raw.fetch(f"select distinct tenant_id from {table}")}
        assert seen - ({None} if table == "sla_policies" else set()) == {mine.tenant}, table


async def test_the_platforms_policies_are_read_by_every_tenant_and_written_by_none(api: Api) -> None:
    person, policy = await api.person(), new_id("pol")
    await rows(api, "select * from policy_global_put($1, 'platform', 'deny', 'document', 'reindex', null, 1, false, 'operator')", policy)
    for statement in (
        "delete from policies where id = $1",
        "update policies set enabled = true where id = $1",
        "update policies set tenant_id = current_setting('app.tenant') where id = $1",
    ):
        async with api.resources.get(Database).work(person.tenant) as work:
            assert await work.raw.fetchval("select count(*) from policies where id = $1", policy) == 1
            assert (await work.raw.execute(statement, policy)).endswith(" 0"), statement
    async with api.resources.get(Database).work(person.tenant) as work:
        with pytest.raises(DENIED):
            await work.raw.execute(
                "insert into policies (id, tenant_id, name, effect, resource_type, action) values ('x', null, 'x', 'allow', '*', '*')"
            )
        await work.raw.execute("rollback; begin")


async def test_rows_cannot_be_given_to_or_taken_from_another_tenant(api: Api, full: tuple[Person, Person]) -> None:
    mine, theirs = full
    for table in TENANT_TABLES:
        async with api.resources.get(Database).work(mine.tenant) as work:
            if table == "audit_events":
                with pytest.raises(DENIED):
                    await work.raw.execute("update audit_events set tenant_id = $1", mine.tenant)
                await work.raw.execute("rollback; begin")
                continue
            assert await work.raw.execute(f"delete from {table} where tenant_id = $1", theirs.tenant) == "DELETE 0", table
            assert (
                await work.raw.execute(f"update {table} set tenant_id = $2 where tenant_id = $1", theirs.tenant, mine.tenant) == "UPDATE 0"
            )
            with pytest.raises(DENIED, match="row-level security"):
                await work.raw.execute(f"update {table} set tenant_id = $1", theirs.tenant)
            await work.raw.execute("rollback; begin")
    async with api.resources.get(Database).work(mine.tenant) as work:
        with pytest.raises(DENIED, match="row-level security"):
            await work.raw.execute(
                "insert into audit_events (tenant_id, actor_type, event_type, outcome) values ($1, 'x', 'x', 'success')", theirs.tenant
            )
        await work.raw.execute("rollback; begin")


def stray(person: Person) -> Corpus:
    return Corpus(tenant_id=person.tenant, id="stray", name="x", visibility="tenant", provider_config={})


async def test_an_entity_of_another_tenant_is_written_by_neither_wall(api: Api, full: tuple[Person, Person]) -> None:
    mine, theirs = full
    database = api.resources.get(Database)
    with pytest.raises(RuntimeError, match="another tenant"):
        async with database.work(mine.tenant) as work:
            work.session.add(stray(theirs))
    unwalled = Database(api.servers.settings.stores, pool_size=1, tenant_criterion=False)
    try:
        with pytest.raises(Exception, match="row-level security"):
            async with unwalled.work(mine.tenant) as work:
                work.session.add(stray(theirs))
    finally:
        await unwalled.close()
    assert await count(api, "select count(*) from corpora where id = 'stray'") == 0


@pytest.mark.parametrize(
    "tenant", ["", "T1", "t1 ", " t1", "t１", "tі", "t1\u200b", "../t1", "t1:*", "{t1}", "t1'; reset role; --", "a" * 64, "-t"]
)
async def test_what_is_no_tenant_id_opens_nothing(api: Api, tenant: str) -> None:
    with pytest.raises(ValueError, match="tenant"):
        async with api.resources.get(Database).work(tenant):
            raise AssertionError("it opened")


async def test_ids_belong_to_their_tenant(api: Api, full: tuple[Person, Person]) -> None:
    """The same corpus and document ids stand in both tenants, each with its own words."""
    for person in full:
        (passage,) = await person.search("c", "whose words are these?")
        assert passage["text"] == f"Words of {person.tenant} alone."
        document: Any = (await person.get("/v1/documents/d")).json()["data"]
        assert document["tenant_id"] == person.tenant
