"""Guesses at passwords: how many are free, and how long one waits after that.

Counted by account and network address, and by account alone for addresses that the account was never logged in to from, so that
strangers hold up strangers. No wait is long: nobody can lock somebody out for more than a minute after the last guess.
"""

import hashlib
import hmac
import math
from dataclasses import dataclass

from nexusrag.identity.accounts import repository
from nexusrag.infra.database import Work
from nexusrag.kernel.errors import ApiError, ErrorCode

_WINDOW_S = 15 * 60  # without a guess, after which counting begins anew


@dataclass(frozen=True, slots=True)
class _Limit:
    free: int
    longest_s: float


_FROM_ADDRESS = _Limit(5, 60)
_FROM_ANYWHERE = _Limit(20, 30)
_REGISTRATIONS = _Limit(20, 60)


async def guess(work: Work, pepper: str, email: str, address: str, *, known: bool) -> None:
    """Count one guess, before it is checked: many at once are counted one by one. `known`: the account was used from this address.

    Raises RATE_LIMITED, and has not counted then once the transaction is rolled back.
    """
    await _count(work, _key(pepper, email, address), _FROM_ADDRESS)
    if not known:
        await _count(work, _key(pepper, email), _FROM_ANYWHERE)


async def fitted(work: Work, pepper: str, email: str, address: str) -> None:
    """The password was right: whoever sits at this address may err again."""
    await repository.forget_attempts(work, _key(pepper, email, address))


async def registration(work: Work, pepper: str, address: str) -> None:
    """Count a registration that makes a tenant. Raises RATE_LIMITED."""
    await _count(work, _key(pepper, "", address), _REGISTRATIONS)


async def _count(work: Work, key: bytes, limit: _Limit) -> None:
    wait = await repository.attempt(work, key, free=limit.free, longest_s=limit.longest_s, window_s=_WINDOW_S)
    if wait:
        seconds = math.ceil(wait)
        message = f"Too many attempts; try again in {seconds} seconds."
        raise ApiError(ErrorCode.RATE_LIMITED, message, {"retry_after_s": seconds}, headers={"Retry-After": str(seconds)})


def _key(pepper: str, *parts: str) -> bytes:
    """A keyed hash: the table holds no addresses."""
    return hmac.new(pepper.encode(), "\0".join(("login", *parts)).encode(), hashlib.sha256).digest()
