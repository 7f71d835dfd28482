"""All SQL of API keys."""

from datetime import datetime

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from nexusrag.identity.api_keys.models import ApiKey
from nexusrag.infra.database import Work
from nexusrag.kernel import clock
from nexusrag.kernel.errors import not_found
from nexusrag.web.call import CallContext


async def load(call: CallContext, key_id: str) -> ApiKey:
    """The key of the caller's tenant, held against others until the transaction ends, or not found."""
    call.resource_id = key_id
    # Not against the deletion of a role, which looks at the keys that hold it: each would wait for the other.
    statement = select(ApiKey).where(ApiKey.tenant_id == call.tenant_id, ApiKey.id == key_id).with_for_update(key_share=True)
    key: ApiKey | None = await call.session.scalar(statement)
    if key is None:
        raise not_found("API key")
    return key


async def lock(work: Work) -> None:
    """One request at a time makes or revives keys of a tenant, so that none is counted too few."""
    await work.raw.execute("select pg_advisory_xact_lock(hashtextextended('api keys ' || $1, 0))", work.tenant_id)


async def count_usable(work: Work) -> int:
    """Keys that work now, without those that the command line made."""
    await work.flush()
    usable = and_(
        ApiKey.tenant_id == work.tenant_id,
        ApiKey.active,
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > clock.now()),
        ApiKey.created_by.is_distinct_from("cli"),
    )
    return await work.session.scalar(select(func.count()).select_from(ApiKey).where(usable)) or 0


def keys(work: Work, idle_since: datetime | None = None) -> Select[ApiKey]:
    """The tenant's keys; with `idle_since` those that were not revoked and not used from then on."""
    statement = select(ApiKey).where(ApiKey.tenant_id == work.tenant_id)
    return statement if idle_since is None else statement.where(ApiKey.revoked_at.is_(None), _anchor() <= idle_since)


def _anchor() -> ColumnElement[datetime]:
    return func.coalesce(ApiKey.last_used_at, ApiKey.created_at)
