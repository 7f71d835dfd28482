"""Tokens of provisioning clients: made, listed and revoked by admins."""

from datetime import timedelta

from nexusrag.access.roles.facade import demand_within
from nexusrag.identity.scim import repository
from nexusrag.identity.scim.models import ScimToken
from nexusrag.identity.scim.schemas import ScimTokenCreated, ScimTokenList, ScimTokenOut
from nexusrag.infra.changes import CREDENTIAL
from nexusrag.kernel import clock
from nexusrag.kernel.actions import ACTIONS_OF, Resource, Role
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.tokens import keyed_hash, mint
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.paging import newest_first


async def create(call: CallContext) -> ScimTokenCreated:
    """Raises AUTH_FORBIDDEN for who is not an admin in all: whoever holds the token puts people into groups, whatever their role."""
    demand_within(call.principal, ACTIONS_OF[Role.ADMIN])
    settings = call.of(Settings)
    minted, now = mint("scim", new_id("scim")), clock.now()
    token = ScimToken(
        tenant_id=call.tenant_id,
        id=minted.id,
        prefix=minted.prefix,
        hash=keyed_hash(minted.secret, settings.auth.auth_key_pepper.get_secret_value()),
        created_by=call.principal.subject_id,
        created_at=now,
        expires_at=now + timedelta(days=settings.identity.scim_token_ttl_days),
    )
    call.session.add(token)
    await call.session.flush()
    call.about(Resource.SCIM_TOKEN, token.id)
    call.record(token_id=token.id, expires_at=clock.iso(token.expires_at))
    call.headers["Cache-Control"] = "no-store"
    return ScimTokenCreated(token_id=token.id, token_prefix=token.prefix, token=minted.secret, expires_at=token.expires_at)


async def revoke(call: CallContext, token: ScimToken) -> ScimTokenOut:
    """Refused everywhere within a second. Revoking it again changes nothing."""
    if token.revoked_at is None:
        token.revoked_at = clock.now()
        await call.announce(CREDENTIAL, token.id)
        call.also_record(EventType.SCIM_TOKEN_REVOKED, token_id=token.id)
    return ScimTokenOut.of(token)


async def list_tokens(call: CallContext, *, limit: int, cursor: str | None) -> ScimTokenList:
    """One page of tokens, newest first."""
    statement = repository.tokens(call.db)
    rows, page = await newest_first(call, statement, ScimToken, listing="admin/identity/scim/tokens", limit=limit, cursor=cursor)
    return ScimTokenList(items=[ScimTokenOut.of(token) for (token,) in rows], page=page)
