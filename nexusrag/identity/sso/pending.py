"""Logins that are under way: kept in Redis until the browser comes back, each taken once. Without Redis nobody logs in."""

import asyncio
import hashlib
from collections.abc import Awaitable
from dataclasses import asdict, dataclass
from typing import TypeVar

import orjson

from nexusrag.infra.redis import UNREACHABLE, Redis
from nexusrag.kernel.errors import ApiError, ErrorCode

T = TypeVar("T")
_PATIENCE_S = 2


@dataclass(frozen=True, slots=True)
class Pending:
    """What must be the same when the browser comes back. `provider_version`: nothing about the provider has changed since.

    `browser` is a hash of the cookie's value; `nonce_until` is in seconds since 1970.
    """

    provider_id: str
    provider_version: str
    browser: str
    nonce: str
    nonce_until: float
    code_verifier: str
    redirect_uri: str
    return_to: str | None


async def keep(redis: Redis, state: str, pending: Pending, ttl_s: int) -> None:
    """Raises SERVICE_UNAVAILABLE when Redis is away."""
    await _asked(redis.client.set(_key(state), orjson.dumps(asdict(pending)), ex=ttl_s))


async def take(redis: Redis, state: str) -> Pending | None:
    """The login of this state, for the first who asks. Raises SERVICE_UNAVAILABLE when Redis is away."""
    found = await _asked(redis.client.getdel(_key(state)))
    return None if found is None else Pending(**orjson.loads(found))


def _key(state: str) -> str:
    return f"nexusrag:sso:{hashlib.sha256(state.encode()).hexdigest()}"


async def _asked(command: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await command
    except UNREACHABLE as error:
        message = "Logins are not possible at the moment; try again shortly."
        raise ApiError(ErrorCode.SERVICE_UNAVAILABLE, message, headers={"Retry-After": "1"}) from error
