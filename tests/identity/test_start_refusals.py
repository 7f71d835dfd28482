"""What may not be started: every fault at once, one line each, before a port is opened."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from nexusrag.domains import DOMAINS
from nexusrag.process import database_faults, open_process, refusals
from nexusrag.settings import SettingsError, load
from tests.support.api import Api, error_of
from tests.support.installation import Servers, serving

COMPLETE = {
    "DATABASE_URL": "postgresql://x@localhost/x", "REDIS_URL": "redis://localhost", "UI_CURSOR_SECRET": "c" * 32,
    "AUTH_KEY_PEPPER": "p" * 32,
    "AUTH_JWT_SECRET": "j" * 32,
}  # fmt: skip


def named(**env: str) -> list[str]:
    lines = refusals(load(Path("var"), {**COMPLETE, **env}))
    assert all("\n" not in line for line in lines)
    return [line.partition(":")[0] for line in lines]


def test_a_complete_environment_may_start() -> None:
    assert named() == []
    assert named(ENVIRONMENT="production", API_HOST="0.0.0.0") == []


@pytest.mark.parametrize("env", [{"API_HOST": "0.0.0.0"}, {"API_HOST": "10.0.0.1"}, {"API_HOST": "::"}, {"ENVIRONMENT": "production"}])
def test_the_bypass_of_authentication_stays_on_loopback_in_development(env: dict[str, str]) -> None:
    assert named(AUTH_DEV_BYPASS="true") == []
    assert named(AUTH_DEV_BYPASS="true", API_HOST="::1") == []
    assert named(AUTH_DEV_BYPASS="true", **env) == ["AUTH_DEV_BYPASS"]


def test_the_secret_of_access_tokens_is_no_shorter_than_their_hash() -> None:
    assert named(AUTH_JWT_SECRET="j" * 31) == ["AUTH_JWT_SECRET"]
    assert named(AUTH_JWT_SECRET="j" * 32) == []


def test_no_statement_goes_without_its_tenant() -> None:
    assert named(AUTHZ_REQUIRE_TENANT_PREDICATE="false") == ["AUTHZ_REQUIRE_TENANT_PREDICATE"]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    env = {
        "AUTH_DEV_BYPASS": "true",
        "AUTH_ENABLED": "false",
        "ENVIRONMENT": "production",
        "DEBUG_EVENTS": "true",
        "UI_CURSOR_SECRET": "short",
    }
    lines = refusals(load(Path("var"), env))
    assert [line.partition(":")[0] for line in lines] == [
        "AUTH_DEV_BYPASS", "AUTH_ENABLED", "DEBUG_EVENTS", "UI_CURSOR_SECRET", "AUTH_KEY_PEPPER", "AUTH_JWT_SECRET",
        "DATABASE_URL", "REDIS_URL",
    ]  # fmt: skip
    assert not any("short" in line for line in lines)


def test_every_setting_that_cannot_be_read_is_named_without_its_secret() -> None:
    env = {
        "API_PORT": "99999",
        "LOG_LEVEL": "LOUD",
        "AUTH_CACHE_TTL_S": "-1",
        "IDEMPOTENCY_ENABLED": "perhaps",
        "RUN_MAX_CONCURRENCY": "many",
    }
    with pytest.raises(SettingsError) as caught:
        load(Path("var"), {**COMPLETE, **env})
    assert {line.partition(":")[0] for line in caught.value.lines} == set(env)
    assert len(caught.value.lines) == len(env) == len(str(caught.value).splitlines())


def test_older_names_of_the_limits_of_a_process_are_read_and_the_names_of_today_win() -> None:
    older = {"RUN_BULKHEAD_MAX_CONCURRENCY": "3", "INGEST_BULKHEAD_MAX_CONCURRENCY": "2"}

    def limits(**env: str) -> tuple[int, int]:
        settings = load(Path("var"), env)
        return settings.runs.run_max_concurrency, settings.ingestion.ingest_max_concurrency

    assert limits() == (10, 4)
    assert limits(**older) == limits(**older, RUN_MAX_CONCURRENCY="", INGEST_MAX_CONCURRENCY="") == (3, 2)
    assert limits(**older, RUN_MAX_CONCURRENCY="7", INGEST_MAX_CONCURRENCY="6") == (7, 6)


async def test_a_process_with_faults_does_not_start(servers: Servers) -> None:
    settings = servers.with_env(
        AUTH_DEV_BYPASS="true", API_HOST="0.0.0.0", UI_CURSOR_SECRET="short", DATABASE_URL="postgresql://x@127.0.0.1:9/x"
    )
    with pytest.raises(SettingsError) as caught:
        async with open_process(settings, DOMAINS):
            raise AssertionError("it started")
    assert [line.partition(":")[0] for line in caught.value.lines] == ["AUTH_DEV_BYPASS", "UI_CURSOR_SECRET", "DATABASE_URL"]


def as_login(servers: Servers, *, user: str | None = None, database: str | None = None) -> str:
    parts = urlsplit(servers.settings.stores.database_migration_url.get_secret_value())
    netloc = parts.netloc if user is None else f"{user}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=netloc, path=parts.path if database is None else f"/{database}"))


@pytest.fixture
async def oddities(servers: Servers) -> AsyncIterator[Servers]:
    """A database without tables and a login without membership."""
    admin = await servers.admin()
    await admin.execute("create database nothing_in_it")
    name = await admin.fetchval("select current_database()")
    await admin.execute(f"create role no_member login password 'pass'; grant connect on database {name} to no_member")
    yield servers
    await admin.execute("drop database nothing_in_it")
    await admin.execute(f"revoke all on database {name} from no_member; drop role no_member")
    await admin.close()


async def test_the_database_must_be_of_this_release_and_bind_its_login(oddities: Servers) -> None:
    async def said(url: str, **env: str) -> list[str]:
        return await database_faults(oddities.with_env(DATABASE_URL=url, **env))

    assert await database_faults(oddities.with_env()) == []
    (empty,) = await said(as_login(oddities, database="nothing_in_it"))
    assert "nexusrag migrate" in empty
    (stranger,) = await said(as_login(oddities, user="no_member:pass"))
    assert "grant nexusrag_app" in stranger
    (powerful,) = await said(as_login(oddities), ENVIRONMENT="production")
    assert "row-level security" in powerful
    (absent,) = await said(as_login(oddities, database="not_there"))
    assert absent.startswith("DATABASE_URL: cannot connect")


@pytest.mark.slow
async def test_the_bypass_speaks_for_a_tenant_and_a_role(servers: Servers) -> None:
    async with serving(servers.with_env(AUTH_DEV_BYPASS="true")) as (app, url):
        api = Api(servers, app, url)
        owner = await api.person()
        corpus, client = await owner.corpus(), api.anonymous()
        as_admin = await client.get("/v1/corpora", headers={"X-Tenant-Id": owner.tenant})
        assert [one["id"] for one in as_admin.json()["data"]] == [corpus]
        assert (await client.get("/v1/ops/health", headers={"X-Tenant-Id": owner.tenant})).status_code == 200
        as_reader = await client.get("/v1/ops/health", headers={"X-Tenant-Id": owner.tenant, "X-Role": "reader"})
        assert error_of(as_reader) == ("AUTH_FORBIDDEN", 403)
        for headers in ({}, {"X-Role": "admin"}, {"X-Tenant-Id": "../x"}, {"X-Tenant-Id": "T1"}, {"X-Tenant-Id": "t1", "X-Role": "root"}):
            assert error_of(await client.get("/v1/corpora", headers=headers)) == ("AUTH_UNAUTHORIZED", 401)
        unmade = await client.post("/v1/corpora", json={"name": "x"}, headers={"X-Tenant-Id": "unmade"})
        assert error_of(unmade) == ("AUTH_UNAUTHORIZED", 401)
        assert "nexusrag keys create --tenant unmade" in unmade.json()["error"]["message"]
        assert (await owner.get("/v1/corpora")).status_code == 200
        await api.close()
