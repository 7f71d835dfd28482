"""Who the caller is, their logins, and ending these."""

from nexusrag.identity.accounts import repository
from nexusrag.identity.accounts.models import AuthSession
from nexusrag.identity.accounts.schemas import Me, SessionOut
from nexusrag.identity.accounts.service.issue import profile
from nexusrag.infra.changes import CREDENTIAL
from nexusrag.kernel import clock
from nexusrag.web.call import CallContext


async def me(call: CallContext) -> Me:
    """The caller, by whatever credential they came."""
    principal = call.principal
    own = await profile(call.db, principal)
    return Me.model_validate({**own.model_dump(), "credential": principal.credential.value, "credential_id": principal.credential_id})


async def list_sessions(call: CallContext) -> list[SessionOut]:
    """The caller's logins that are good, newest first."""
    sessions = await repository.sessions_of(call.db, call.principal.subject_id, clock.now())
    return [SessionOut.of(session, call.principal.credential_id) for session in sessions]


async def end_session(call: CallContext, session: AuthSession) -> None:
    """End one of the caller's logins, everywhere within a second. One that has ended stays so."""
    await _end(call, session.id)


async def logout(call: CallContext) -> None:
    """End the login that the request came with."""
    await _end(call, call.principal.credential_id)


async def _end(call: CallContext, session_id: str) -> None:
    call.record(session_id=session_id)
    if await repository.end_session(call.db, session_id):
        await call.announce(CREDENTIAL, session_id)
