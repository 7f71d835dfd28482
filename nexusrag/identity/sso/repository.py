"""All SQL of single sign-on."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select

from nexusrag.identity.sso.models import IdentityProvider, UserIdentity
from nexusrag.infra.database import Work

# People that a provisioning client keeps, whom no provider has vouched for yet. $2: the keys under which it may know the person;
# $3: their verified address. Two is one too many.
_LINKABLE = (
    "select u.id from users u where u.tenant_id = $1 and u.deleted_at is null and not u.service and u.user_name is not null "
    "and ({}) and not exists (select 1 from user_identities i where i.tenant_id = u.tenant_id and i.user_id = u.id) limit 2"
)
_BY_KEY = _LINKABLE.format("u.external_id = any($2)")
_BY_ADDRESS = _LINKABLE.format("lower($2) in (lower(u.user_name), lower(u.email))")


async def tenant_of(work: Work, provider_id: str) -> Any:
    """The tenant of a provider, whosever it is, with its plan; None when there is none."""
    return await work.raw.fetchrow("select * from auth_provider($1)", provider_id)


async def find(work: Work, provider_id: str) -> IdentityProvider | None:
    """A provider of the transaction's tenant."""
    provider: IdentityProvider | None = await work.session.scalar(_of(work, provider_id))
    return provider


async def hold(work: Work, provider_id: str, *, change: bool) -> IdentityProvider | None:
    """The same as it is now, not changed by others until the transaction ends; with `change` not held by others either."""
    provider: IdentityProvider | None = await work.session.scalar(
        _of(work, provider_id).with_for_update(read=not change).execution_options(populate_existing=True)
    )
    return provider


async def providers(work: Work, *, enabled_only: bool = False) -> Sequence[IdentityProvider]:
    """The tenant's providers, oldest first."""
    statement = select(IdentityProvider).where(IdentityProvider.tenant_id == work.tenant_id)
    if enabled_only:
        statement = statement.where(IdentityProvider.enabled)
    return (await work.session.scalars(statement.order_by(IdentityProvider.created_at, IdentityProvider.id))).all()


async def count(work: Work) -> int:
    statement = select(func.count()).select_from(IdentityProvider).where(IdentityProvider.tenant_id == work.tenant_id)
    return await work.session.scalar(statement) or 0


async def is_used(work: Work, provider_id: str) -> bool:
    """Whether somebody has logged in through the provider."""
    found = await work.raw.fetchval(
        "select exists (select 1 from user_identities where tenant_id = $1 and provider_id = $2)", work.tenant_id, provider_id
    )
    return bool(found)


async def end_sessions(work: Work, provider_id: str) -> int:
    """Everybody who logged in through the provider is logged out; how many logins that were."""
    ended = await work.raw.fetch(
        "update auth_sessions set revoked_at = now() "
        "where tenant_id = $1 and provider_id = $2 and revoked_at is null and expires_at > now() returning id",
        work.tenant_id,
        provider_id,
    )
    return len(ended)


async def identity(work: Work, provider_id: str, subject: str) -> UserIdentity | None:
    """Somebody as this provider knows them."""
    found: UserIdentity | None = await work.session.scalar(
        select(UserIdentity).where(
            UserIdentity.tenant_id == work.tenant_id, UserIdentity.provider_id == provider_id, UserIdentity.subject == subject
        )
    )
    return found


async def one_newcomer_at_a_time(work: Work) -> None:
    """Of the tenant, until the transaction ends: whoever is second finds what the first has made."""
    await work.raw.execute("select pg_advisory_xact_lock(hashtextextended('newcomer ' || $1, 0))", work.tenant_id)


async def linkable(work: Work, keys: Sequence[str], address: str | None) -> str | None:
    """The one provisioned person who is known under one of the keys, or else by a verified address; None when there are several."""
    found = await work.raw.fetch(_BY_KEY, work.tenant_id, list(keys))
    if not found and address is not None:
        found = await work.raw.fetch(_BY_ADDRESS, work.tenant_id, address)
    return found[0]["id"] if len(found) == 1 else None


async def note_login(work: Work, user_id: str) -> None:
    await work.raw.execute("update users set last_login_at = now() where tenant_id = $1 and id = $2", work.tenant_id, user_id)


def _of(work: Work, provider_id: str) -> Select[IdentityProvider]:
    return select(IdentityProvider).where(IdentityProvider.tenant_id == work.tenant_id, IdentityProvider.id == provider_id)
