"""Making an account: into the tenant that invited, or, where anybody may register, with a tenant of one's own."""

import asyncpg

from nexusrag.access.roles.facade import resolved
from nexusrag.identity.accounts import repository, throttle
from nexusrag.identity.accounts.passwords import Passwords, refusal
from nexusrag.identity.accounts.schemas import AuthTokens, Registration
from nexusrag.identity.accounts.service.invite import needs_second
from nexusrag.identity.accounts.service.issue import address_of, begin_session, hashes_of
from nexusrag.identity.credentials.facade import actions_of
from nexusrag.infra.database import Database
from nexusrag.kernel.actions import Role
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.tokens import is_well_formed, kind_of
from nexusrag.security.audit import facade as audit
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


async def register(call: CallContext, body: Registration) -> AuthTokens:
    """Raises AUTH_FORBIDDEN where registration is closed or needs an invitation, AUTH_UNAUTHORIZED for an invitation that cannot be
    used, VALIDATION_ERROR for a weak password, CONFLICT when the tenant knows the address.
    """
    call.refused_as = EventType.ACCOUNT_REGISTERED
    mode = call.of(Settings).identity.auth_registration
    if mode == "closed":
        raise ApiError(ErrorCode.AUTH_FORBIDDEN, "Registration is closed here; ask an admin for an account.")
    if body.invitation_token is None and mode != "open":
        raise ApiError(ErrorCode.AUTH_FORBIDDEN, "Registering needs an invitation: send its invitation_token.")
    demand_good(body.password.get_secret_value(), body.email, "password")
    if body.invitation_token is None:
        return await _with_own_tenant(call, body)
    return await _by_invitation(call, body, body.invitation_token.get_secret_value())


def demand_good(password: str, email: str, field: str) -> None:
    """Raises VALIDATION_ERROR that says what is wrong with a new password."""
    fault = refusal(password, email)
    if fault is not None:
        field = f"body.{field}"
        details = {"errors": [{"field": field, "message": fault, "type": "value_error"}]}
        raise ApiError(ErrorCode.VALIDATION_ERROR, f"{field}: {fault}", details)


async def _by_invitation(call: CallContext, body: Registration, token: str) -> AuthTokens:
    if kind_of(token) != "inv" or not is_well_formed(token):
        raise _useless()
    async with call.of(Database).work(None) as work:
        found = await repository.find_invitation(work, hashes_of(call, token))
    if found is None:
        raise _useless()
    call.claimed = (found["tenant_id"], "invitation", found["id"])
    # Looked at before the expensive part, and used up after it.
    async with call.of(Database).work(found["tenant_id"]) as work:
        if not await repository.is_invited(work, found["id"], body.email):
            raise _useless()
    password_hash = await call.of(Passwords).hashed(body.password.get_secret_value())
    user_id = new_id("usr")
    async with call.of(Database).work(found["tenant_id"]) as work:
        invitation = await repository.accept_invitation(work, found["id"], body.email, user_id)
        if invitation is None:
            raise _useless()
        given = await resolved(work, Role(invitation["role"]), invitation["custom_role_id"])
        # Who may not give this any more, or is gone, has not invited.
        if not given.actions <= await actions_of(work, invitation["invited_by"]) or needs_second(call, given.actions):
            raise _useless()
        if await repository.is_member(work, body.email):
            raise _known()
        try:
            await repository.add_user(work, user_id, body.email, body.display_name, given.role.value, given.custom_role, password_hash)
        except asyncpg.UniqueViolationError as error:
            raise _known() from error
        tokens = await begin_session(call, work, user_id)
        await audit.write(call, work, EventType.ACCOUNT_REGISTERED, {"invitation_id": found["id"], "session_id": tokens.session_id})
    return tokens


async def _with_own_tenant(call: CallContext, body: Registration) -> AuthTokens:
    pepper = call.of(Settings).auth.auth_key_pepper.get_secret_value()
    async with call.of(Database).work(None) as work:
        await throttle.registration(work, pepper, address_of(call))
    password_hash = await call.of(Passwords).hashed(body.password.get_secret_value())
    tenant_id, user_id = new_id("tenant"), new_id("usr")
    async with call.of(Database).work(tenant_id) as work:
        if not await repository.open_tenant(work, tenant_id, body.tenant_name or body.display_name or body.email):
            raise ApiError(ErrorCode.AUTH_FORBIDDEN, "This installation is not set up yet: an operator makes the first tenant.")
        await repository.add_user(work, user_id, body.email, body.display_name, Role.ADMIN.value, None, password_hash)
        tokens = await begin_session(call, work, user_id)
        await audit.write(call, work, EventType.TENANT_CREATED, {})
        await audit.write(call, work, EventType.ACCOUNT_REGISTERED, {"session_id": tokens.session_id})
    return tokens


def _useless() -> ApiError:
    message = "This invitation cannot be used: it is unknown, used, expired, revoked, or for another address."
    return ApiError(ErrorCode.AUTH_UNAUTHORIZED, message)


def _known() -> ApiError:
    return ApiError(ErrorCode.CONFLICT, "The tenant has a member with this address already.")
