"""The next pair of tokens for a refresh token, which is used once: who brings one that was used ends the login.

There is no grace for a repetition. A client that sends the same token twice, even at the same moment, gets one pair and loses
the login with it: it cannot be told from a thief.
"""

from typing import Any

from nexusrag.identity.accounts import repository
from nexusrag.identity.accounts.schemas import AuthTokens, Refresh
from nexusrag.identity.accounts.service.issue import hashes_of, issue
from nexusrag.infra.changes import CREDENTIAL, announce
from nexusrag.infra.database import Database, Work
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.kernel.tokens import is_well_formed, kind_of
from nexusrag.security.audit import facade as audit
from nexusrag.web.call import CallContext


async def refresh(call: CallContext, body: Refresh) -> AuthTokens:
    """Raises AUTH_UNAUTHORIZED for an unknown token, a disabled person or a suspended tenant, AUTH_EXPIRED_KEY, and AUTH_REVOKED_KEY
    when the login has ended or ends by this.
    """
    token = body.refresh_token.get_secret_value()
    if kind_of(token) != "ref" or not is_well_formed(token):
        raise _unknown()
    async with call.of(Database).work(None) as work:
        found = await repository.find_refresh_token(work, hashes_of(call, token))
    if found is None:
        raise _unknown()
    async with call.of(Database).work(found["tenant_id"]) as work:
        held = await repository.hold_refresh_token(work, found["id"])
        if held is None:
            raise _unknown()
        call.claimed = (found["tenant_id"], "user", held["user_id"])
        if held["used_at"] is None:
            return await _rotate(call, work, found["id"], held)
        await _end_family(call, work, held)
    raise ApiError(ErrorCode.AUTH_REVOKED_KEY, "This refresh token was used before, so its session has ended; log in again.")


async def _rotate(call: CallContext, work: Work, token_id: str, held: Any) -> AuthTokens:
    if held["expired"]:
        raise ApiError(ErrorCode.AUTH_EXPIRED_KEY, "This refresh token has expired; log in again.")
    tokens = await issue(call, work, held["session_id"])
    await repository.use_refresh_token(work, token_id, held["session_id"], tokens.refresh_expires_at)
    return tokens


async def _end_family(call: CallContext, work: Work, held: Any) -> None:
    if await repository.end_session(work, held["session_id"]):
        await announce(work, CREDENTIAL, held["session_id"])
        await audit.write(call, work, EventType.REFRESH_REPLAYED, {"session_id": held["session_id"]}, error=ErrorCode.AUTH_REVOKED_KEY)


def _unknown() -> ApiError:
    return ApiError(ErrorCode.AUTH_UNAUTHORIZED, "Send a refresh token of ours: nrag_ref_…")
