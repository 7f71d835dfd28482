"""Changing one's password."""

from nexusrag.identity.accounts import repository, throttle
from nexusrag.identity.accounts.passwords import Passwords
from nexusrag.identity.accounts.schemas import PasswordChange
from nexusrag.identity.accounts.service.issue import address_of
from nexusrag.identity.accounts.service.register import demand_good
from nexusrag.infra.changes import PERSON, announce
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


async def change_password(call: CallContext, body: PasswordChange) -> None:
    """Ends the person's other logins; API keys stay. Raises AUTH_FORBIDDEN for a wrong password, RATE_LIMITED after many of these,
    CONFLICT for an account without one, VALIDATION_ERROR for a weak one.
    """
    call.refused_as = EventType.PASSWORD_CHANGED
    pepper, address = call.of(Settings).auth.auth_key_pepper.get_secret_value(), address_of(call)
    principal, passwords = call.principal, call.of(Passwords)
    new = body.new_password.get_secret_value()
    demand_good(new, principal.email or "", "new_password")
    held = await repository.password_of(call.db, principal.subject_id)
    if held is None or held["password_hash"] is None:
        raise ApiError(ErrorCode.CONFLICT, "This account has no password; its person logs in through the identity provider.")
    account = held["folded"] or principal.subject_id  # whoever provisions people can take their address away
    await throttle.guess(call.db, pepper, account, address, known=True)
    async with call.outside_work():  # the guess is counted, whatever follows
        if not await passwords.fits(body.current_password.get_secret_value(), held["password_hash"]):
            raise ApiError(ErrorCode.AUTH_FORBIDDEN, "The current password is wrong.")
        hashed = await passwords.hashed(new)
    if not await repository.change_password(call.db, principal.subject_id, held["password_hash"], hashed):
        raise ApiError(ErrorCode.CONFLICT, "The password was changed meanwhile.")
    await throttle.fitted(call.db, pepper, account, address)
    ended = await repository.end_other_sessions(call.db, principal.subject_id, principal.credential_id)
    await announce(call.db, PERSON, f"{principal.tenant_id}/{principal.subject_id}")
    call.record(sessions_ended=ended)
