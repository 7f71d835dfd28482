"""Logging in. Whatever is wrong, the answer is the same and takes as long."""

from nexusrag.identity.accounts import repository, throttle
from nexusrag.identity.accounts.passwords import Passwords
from nexusrag.identity.accounts.repository import Account
from nexusrag.identity.accounts.schemas import AuthTokens, Login
from nexusrag.identity.accounts.service.issue import address_of, begin_session
from nexusrag.infra.database import Database
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.security.audit import facade as audit
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


async def login(call: CallContext, body: Login) -> AuthTokens:
    """Raises AUTH_UNAUTHORIZED for a wrong password, an unknown address, a disabled person or a suspended tenant; RATE_LIMITED after
    many of these; CONFLICT with the tenants' ids when the password fits in several and none is named.
    """
    call.refused_as = EventType.LOGIN_FAILURE
    call.of(Passwords).demand_room()
    pepper, address = call.of(Settings).auth.auth_key_pepper.get_secret_value(), address_of(call)
    password = body.password.get_secret_value()
    async with call.of(Database).work(None) as work:
        email, accounts = await repository.accounts_of(work, body.email, body.tenant_id, address)
        await throttle.guess(work, pepper, email, address, known=any(account.from_here for account in accounts))
    account = await _fitting(call, accounts, password)
    async with call.of(Database).work(None) as work:
        await throttle.fitted(work, pepper, email, address)
    tokens = await _enter(call, account, password)
    if tokens is None:  # it changed meanwhile, perhaps in nothing but how its password is kept
        async with call.of(Database).work(None) as work:
            _, accounts = await repository.accounts_of(work, email, account.tenant_id, address)
        tokens = await _enter(call, await _fitting(call, accounts, password), password)
    if tokens is None:
        raise _wrong()
    return tokens


async def _fitting(call: CallContext, accounts: list[Account], password: str) -> Account:
    """The one account that the password opens."""
    passwords = call.of(Passwords)
    fitting = [account for account in accounts if await passwords.fits(password, account.password_hash) and account.good]
    if not accounts:
        await passwords.fits(password, None)
    if not fitting:
        await _put_on_record(call, accounts)
        raise _wrong()
    if len(fitting) > 1:
        tenants = sorted(account.tenant_id for account in fitting)
        raise ApiError(ErrorCode.CONFLICT, "This password fits in several tenants; name one in tenant_id.", {"tenants": tenants})
    return fitting[0]


async def _put_on_record(call: CallContext, accounts: list[Account]) -> None:
    """Each tenant whose account was tried sees it: the first in the refusal's own event."""
    for account in reversed(accounts):
        call.claimed = (account.tenant_id, "user", account.user_id)
        if account is not accounts[0]:
            async with call.of(Database).work(account.tenant_id) as work:
                await audit.write(call, work, EventType.LOGIN_FAILURE, {}, error=ErrorCode.AUTH_UNAUTHORIZED)


async def _enter(call: CallContext, account: Account, password: str) -> AuthTokens | None:
    """None when the account is not any more what it was when the password was checked."""
    passwords = call.of(Passwords)
    rehashed = await passwords.hashed(password) if passwords.outdated(account.password_hash) else None
    async with call.of(Database).work(account.tenant_id) as work:
        if not await repository.log_in(work, account, rehashed):
            return None
        tokens = await begin_session(call, work, account.user_id)
        await audit.write(call, work, EventType.LOGIN_SUCCESS, {"session_id": tokens.session_id})
    return tokens


def _wrong() -> ApiError:
    return ApiError(ErrorCode.AUTH_UNAUTHORIZED, "The e-mail address or the password is wrong.")
