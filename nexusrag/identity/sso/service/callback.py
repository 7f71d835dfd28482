"""Completing a login: the browser comes back from the identity provider, and gets a session of ours."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import structlog

from nexusrag.identity.accounts.facade import AuthSession
from nexusrag.identity.credentials.facade import checked, find_session
from nexusrag.identity.sso import flow, id_tokens, pending, redirects, repository, secrets
from nexusrag.identity.sso.claims import Vouched, vouched
from nexusrag.identity.sso.keysets import KeySets
from nexusrag.identity.sso.pending import Pending
from nexusrag.identity.sso.refusals import LoginRefused, exchange_failed, provider_missing, state_invalid, token_invalid
from nexusrag.identity.sso.schemas import SsoLogin
from nexusrag.identity.sso.service import browser
from nexusrag.identity.sso.service.opened import OpenProvider, opened, version_of
from nexusrag.identity.sso.service.people import recognised
from nexusrag.identity.sso.wire import Wire
from nexusrag.infra.database import Database, Work
from nexusrag.infra.redis import Redis
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Resource, Role
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.principal import Credential
from nexusrag.kernel.tokens import keyed_hash, mint
from nexusrag.security.audit import facade as audit
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

log = structlog.get_logger(__name__)
_PARAMETERS = ("code", "state", "iss", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the provider says through the browser."""

    code: str | None
    state: str | None
    iss: str | None
    error: str | None


async def complete(call: CallContext, provider_id: str, answer: Answer) -> Any:
    """The SsoLogin, or a redirect to the page where it began, which is also told of a refusal.

    Raises what `opened` does, SSO_INVALID_STATE, SSO_TOKEN_EXCHANGE_FAILED, SSO_ID_TOKEN_INVALID, SSO_JIT_DISABLED, URL_NOT_ALLOWED, and
    SERVICE_UNAVAILABLE without Redis: nobody logs in without protection against replay.
    """
    found = await opened(call, provider_id)
    call.about(Resource.PROVIDER, provider_id)
    call.claimed = (found.tenant_id, "identity_provider", provider_id)
    begun: Pending | None = None
    try:
        begun = await _begun(call, found, answer)
        login = await _entered(call, found, await _vouched_for(call, found, begun, answer))
    except ApiError as error:
        await _note_failure(call, found, error)
        if begun is None or begun.return_to is None:
            raise
        return redirects.back_to(begun.return_to, error=error.code.value)
    if begun.return_to is not None:
        return redirects.back_to(begun.return_to, session_token=login.session_token, expires_at=login.expires_at.isoformat())
    call.headers.update(redirects.HEADERS)
    return login


async def _begun(call: CallContext, found: OpenProvider, answer: Answer) -> Pending:
    """The login that this is the end of, which is used up now."""
    if answer.state is None or any(len(call.request.query_params.getlist(name)) > 1 for name in _PARAMETERS):
        raise state_invalid("no state, or a parameter twice")
    begun = await pending.take(call.of(Redis), answer.state)
    if begun is None:
        raise state_invalid("the state is unknown, over or used")
    if begun.provider_id != found.provider.id or answer.iss not in (None, found.provider.issuer):
        raise state_invalid("the answer of another provider")
    if not browser.is_marked(call, begun.browser):
        raise state_invalid("another browser")
    if begun.provider_version != found.version:
        raise state_invalid("the provider was changed meanwhile")
    return begun


async def _vouched_for(call: CallContext, found: OpenProvider, begun: Pending, answer: Answer) -> Vouched:
    """Who has come, as the provider says after everything about its answer was checked."""
    provider, wire, settings = found.provider, call.of(Wire), call.of(Settings)
    if answer.error is not None or answer.code is None:
        raise exchange_failed("the provider sent an error instead of a code")
    secret = secrets.resolve(settings, found.tenant_id, found.is_home, provider.client_secret_ref)
    if secret is None:
        raise exchange_failed("client_secret_ref leads to no secret")
    tokens = await flow.exchange(wire, provider, secret, begun, answer.code)
    compact = id_tokens.opened(tokens["id_token"])
    key = await call.of(KeySets).key_for(provider, compact.headers())
    if clock.now().timestamp() > begun.nonce_until:
        raise token_invalid("the nonce is over")
    access_token = tokens["access_token"] if isinstance(tokens.get("access_token"), str) else None
    claims = id_tokens.verified(
        compact, key, issuer=provider.issuer, client_id=provider.client_id, nonce=begun.nonce, access_token=access_token,
        skew_s=settings.identity.sso_clock_skew_seconds,
    )  # fmt: skip
    told = await flow.told_of(wire, provider, claims, access_token)
    return vouched(told, provider.issuer, provider.role_mapping, Role(provider.default_role))


async def _entered(call: CallContext, found: OpenProvider, person: Vouched) -> SsoLogin:
    """A new session, with everything that came with it, in one transaction."""
    async with call.of(Database).work(found.tenant_id) as work:
        held = await repository.hold(work, found.provider.id, change=False)
        if held is None or not held.enabled:
            raise provider_missing()
        if version_of(held) != found.version:
            raise state_invalid("the provider was changed meanwhile")
        user = await recognised(call, work, found, person)
        return await _session(call, work, found, user.id)


async def _session(call: CallContext, work: Work, found: OpenProvider, user_id: str) -> SsoLogin:
    settings, request = call.of(Settings), call.request
    minted = mint("sess", new_id("ses"))
    now = clock.now()
    session = AuthSession(
        tenant_id=found.tenant_id,
        id=minted.id,
        user_id=user_id,
        kind="sso",
        provider_id=found.provider.id,
        hash=keyed_hash(minted.secret, settings.auth.auth_key_pepper.get_secret_value()),
        created_at=now,
        expires_at=now + timedelta(hours=settings.identity.sso_session_ttl_hours),
        user_agent=request.headers.get("user-agent", "")[:200] or None,
        ip_address=call.address,
    )
    work.session.add(session)
    await work.flush()
    principal = call.principal = checked(await find_session(work, session.id), Credential.SESSION, settings.auth)
    about = {"provider_id": found.provider.id, "session_id": session.id}
    await audit.write(call, work, EventType.SSO_LOGIN_SUCCESS, about)
    return SsoLogin(
        tenant_id=found.tenant_id,
        provider_id=found.provider.id,
        user_id=user_id,
        role=principal.role,
        session_token=minted.secret,
        expires_at=session.expires_at,
    )


async def _note_failure(call: CallContext, found: OpenProvider, error: ApiError) -> None:
    """The tenant's log says why. A flood of made-up answers is sampled, and an unwritten line changes no answer."""
    reason = error.reason if isinstance(error, LoginRefused) else error.message
    log.warning("sso.refused", code=error.code.value, reason=reason, provider_id=found.provider.id, request_id=call.request_id)
    if error.code is ErrorCode.SERVICE_UNAVAILABLE or not call.of(audit.FailureSampler).admit(found.tenant_id):
        return
    about = {"provider_id": found.provider.id, "reason": reason}
    try:
        async with call.of(Database).work(found.tenant_id) as work:
            await audit.write(call, work, EventType.SSO_LOGIN_FAILURE, about, error=error.code)
    except (ApiError, asyncpg.PostgresError) as failure:
        log.error("audit.unwritten", event_type=EventType.SSO_LOGIN_FAILURE.value, error=type(failure).__name__)
