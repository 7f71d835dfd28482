"""Opens what every process of ours stands on, API and worker alike, and checks that it may start."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import structlog

from nexusrag.infra.bulkheads import Bulkheads
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import APP_ROLE, UNREACHABLE, Database
from nexusrag.infra.integrations import Integrations
from nexusrag.infra.jobs import Handlers
from nexusrag.infra.migrate import SYSTEM_ROLE, head
from nexusrag.infra.outbound import Outbound
from nexusrag.infra.redis import Redis
from nexusrag.infra.resources import Resources
from nexusrag.infra.urls import connect_arguments
from nexusrag.kernel.errors import ApiError
from nexusrag.providers.embeddings.factory import open_embedder
from nexusrag.providers.embeddings.port import Embedder
from nexusrag.settings import Settings, SettingsError
from nexusrag.web.cursors import Cursors
from nexusrag.web.domain import Descriptions, Domain

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_process(settings: Settings, domains: Sequence[Domain]) -> AsyncIterator[Resources]:
    """The resources of one process, closed in reverse order. Raises SettingsError with one line per fault."""
    await check_start(settings)
    resources = Resources()
    async with AsyncExitStack() as stack:
        resources.put(Settings, settings)
        database = resources.put(Database, Database(settings.stores))
        stack.push_async_callback(database.close)
        redis = resources.put(Redis, Redis(settings.stores))
        stack.push_async_callback(redis.close)
        integrations = resources.put(Integrations, Integrations(settings.resilience, redis))
        outbound = resources.put(Outbound, Outbound(settings.outbound, integrations=integrations))
        stack.push_async_callback(outbound.close)
        embedder = open_embedder(settings, outbound)
        resources.put(Embedder, embedder)
        stack.push_async_callback(embedder.close)
        resources.put(Cursors, Cursors(settings.web.ui_cursor_secret.get_secret_value()))
        resources.put(Bulkheads, Bulkheads({"run": settings.runs.run_max_concurrency, "ingest": settings.ingestion.ingest_max_concurrency}))
        resources.put(Handlers, Handlers(handler for domain in domains for handler in domain.jobs))
        resources.put(Descriptions, Descriptions(domains))
        changes = resources.put(Changes, Changes(database))
        for domain in domains:
            for opening in domain.opens:
                await stack.enter_async_context(opening(resources))
        changes.start()
        # The first question must not wait for a model that is still loading.
        warming = asyncio.create_task(_warm(embedder))
        stack.callback(warming.cancel)
        stack.push_async_callback(changes.close)
        yield resources


async def check_start(settings: Settings) -> None:
    """Raises SettingsError with everything that must be mended first, one line each."""
    faults = refusals(settings) + await database_faults(settings)
    if faults:
        raise SettingsError(faults)


async def _warm(embedder: Embedder) -> None:
    try:
        await embedder.embed(["warm"], urgent=True)
    except ApiError as error:
        log.warning("embedder.not_ready", error=error.code, reason=error.message)


def refusals(settings: Settings) -> list[str]:
    """What may not be started, one line each."""
    auth, faults = settings.auth, []
    loopback = settings.web.api_host in ("127.0.0.1", "::1", "localhost")
    if auth.auth_dev_bypass and (settings.runtime.environment == "production" or not loopback):
        faults.append("AUTH_DEV_BYPASS: allowed only with ENVIRONMENT=development and API_HOST on loopback")
    if not auth.auth_enabled:
        faults.append("AUTH_ENABLED: cannot be false; use AUTH_DEV_BYPASS=true for development on loopback")
    if not auth.authz_require_tenant_predicate:
        faults.append("AUTHZ_REQUIRE_TENANT_PREDICATE: cannot be false; statements without their tenant find nothing")
    if settings.runtime.environment == "production" and settings.runtime.debug_events:
        faults.append("DEBUG_EVENTS: shows passages on the stream; not allowed with ENVIRONMENT=production")
    secrets = {
        "UI_CURSOR_SECRET": settings.web.ui_cursor_secret,
        "AUTH_KEY_PEPPER": auth.auth_key_pepper,
        "AUTH_JWT_SECRET": settings.identity.auth_jwt_secret,
    }
    for name, secret in secrets.items():
        least = 32 if name == "AUTH_JWT_SECRET" else 16  # RFC 7518: no shorter than the hash
        if len(secret.get_secret_value()) < least:
            faults.append(f"{name}: needs at least {least} characters; `nexusrag up` makes one, elsewhere set it")
    for name, url in (("DATABASE_URL", settings.stores.database_url), ("REDIS_URL", settings.stores.redis_url)):
        if not url.get_secret_value():
            faults.append(f"{name}: not set; `nexusrag up` starts an embedded server")
    return faults


async def database_faults(settings: Settings) -> list[str]:
    """Whether the database is of this release and the login is bound by row-level security."""
    url = settings.stores.database_url.get_secret_value()
    if not url:
        return []
    try:
        connection = await asyncpg.connect(**connect_arguments(url), timeout=10)
    except (*UNREACHABLE, TimeoutError, asyncpg.PostgresError, ValueError) as error:
        return [f"DATABASE_URL: cannot connect ({type(error).__name__})"]
    try:
        if await connection.fetchval("select to_regclass('public.alembic_version') is null"):
            return ["DATABASE_URL: the database has no tables; run `nexusrag migrate`"]
        if not await connection.fetchval("select pg_has_role(session_user, $1, 'member')", APP_ROLE):
            return [f"DATABASE_URL: the login must be a member of {APP_ROLE}; as an administrator: grant {APP_ROLE} to <login>"]
        faults = []
        await connection.execute(f"set role {APP_ROLE}")
        revision = await connection.fetchval("select version_num from alembic_version")
        if revision != head():
            faults.append(f"DATABASE_URL: the schema is at {revision}, this release needs {head()}; run `nexusrag migrate`")
        powerful = await connection.fetchval(
            "select rolsuper or rolbypassrls or pg_has_role(session_user, $1, 'member') from pg_roles where rolname = session_user",
            SYSTEM_ROLE,
        )
        if powerful and settings.runtime.environment == "production":
            faults.append(f"DATABASE_URL: the login could step around row-level security; use one that is a member of {APP_ROLE} alone")
        return faults
    finally:
        await connection.close()
