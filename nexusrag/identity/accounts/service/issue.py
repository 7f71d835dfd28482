"""Giving a login its tokens."""

from datetime import timedelta

from nexusrag.identity.accounts import repository
from nexusrag.identity.accounts.schemas import AuthTokens, UserProfile
from nexusrag.identity.credentials.facade import AccessTokens, checked, find_session
from nexusrag.infra.database import Work
from nexusrag.kernel import clock
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.principal import Credential, Principal
from nexusrag.kernel.tokens import keyed_hash, mint
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


async def begin_session(call: CallContext, work: Work, user_id: str) -> AuthTokens:
    """A new login of a person whose password, or invitation, was found good. The request has a caller from here on."""
    session_id = new_id("ses")
    expires_at = clock.now() + _life(call)
    agent = call.request.headers.get("user-agent", "")[:200]
    await repository.open_session(work, session_id, user_id, expires_at, address_of(call), agent or None)
    return await issue(call, work, session_id)


async def issue(call: CallContext, work: Work, session_id: str) -> AuthTokens:
    """The next pair of tokens of a login. Raises what is wrong with it, or with its person or tenant."""
    settings, access = call.of(Settings), call.of(AccessTokens)
    row = await find_session(work, session_id)
    principal = call.principal = checked(row, Credential.SESSION, settings.auth)
    token_id = new_id("rt")
    minted = mint("ref", token_id)
    expires_at = clock.now() + _life(call)
    token_hash = keyed_hash(minted.secret, settings.auth.auth_key_pepper.get_secret_value())
    await repository.add_refresh_token(work, token_id, session_id, token_hash, expires_at)
    call.headers["Cache-Control"] = "no-store"
    return AuthTokens(
        access_token=access.sign(principal.tenant_id, principal.subject_id, session_id),
        expires_in=access.ttl_s,
        refresh_token=minted.secret,
        refresh_expires_at=expires_at,
        session_id=session_id,
        user=await profile(work, principal),
    )


async def profile(work: Work, principal: Principal) -> UserProfile:
    """What a person is told about themselves."""
    row = await repository.profile(work, principal.subject_id)
    return UserProfile(
        id=principal.subject_id,
        tenant_id=principal.tenant_id,
        email=principal.email,
        display_name=row and row["display_name"],
        role=principal.role,
        custom_role=principal.custom_role,
        groups=sorted(principal.groups.values()),
        created_at=row and row["created_at"],
        last_login_at=row and row["last_login_at"],
    )


def hashes_of(call: CallContext, token: str) -> list[bytes]:
    """What a token may be kept under: by the pepper in force, and by the one before it while that is named."""
    auth = call.of(Settings).auth
    peppers = [auth.auth_key_pepper.get_secret_value(), auth.auth_key_pepper_previous.get_secret_value()]
    return [keyed_hash(token, pepper) for pepper in peppers if pepper]


def address_of(call: CallContext) -> str:
    """The network address that the request comes from."""
    return call.address or ""


def _life(call: CallContext) -> timedelta:
    return timedelta(days=call.of(Settings).identity.auth_refresh_token_ttl_days)
