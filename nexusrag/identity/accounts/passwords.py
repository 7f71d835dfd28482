"""Passwords: which are accepted, how they are kept (Argon2id), and that hashing never holds up the process."""

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from nexusrag.kernel.errors import ApiError, ErrorCode

T = TypeVar("T")
MIN_CHARACTERS = 12
MAX_BYTES = 1024
_AT_ONCE = 2  # hashes; each takes 19 MiB and one core
_WAITING = 64
# The least that OWASP recommends for Argon2id. A stronger choice reaches each account at its next login.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, hash_len=32, salt_len=16)
# Of no password, with the parameters above: checking it takes as long as checking a real one.
_NOBODY = f"$argon2id$v=19$m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}${'A' * 22}${'A' * 43}"


def refusal(password: str, email: str) -> str | None:
    """Why this cannot be the password of the account, or None."""
    if len(normalised(password)) < MIN_CHARACTERS:
        return f"must have at least {MIN_CHARACTERS} characters"
    if len(normalised(password).encode()) > MAX_BYTES:
        return f"must have at most {MAX_BYTES} bytes"
    if normalised(password).casefold() == normalised(email).casefold():
        return "must not be the e-mail address"
    return None


def normalised(password: str) -> str:
    """The same characters, however a keyboard composes them (RFC 8265)."""
    return unicodedata.normalize("NFC", password)


class Passwords:
    """Hashes and checks in threads of its own, two at once."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="argon2")
        self._busy = 0

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hashed(self, password: str) -> str:
        """What is stored of a password. Raises SERVICE_BUSY when too many wait."""
        return await self._run(lambda: _HASHER.hash(normalised(password)))

    async def fits(self, password: str, stored: str | None) -> bool:
        """Whether the password is the stored one; None, of an account that does not exist, takes as long and never fits."""
        return await self._run(lambda: _fits(normalised(password), stored or _NOBODY)) and stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether it was hashed with other parameters than are in force now."""
        return _HASHER.check_needs_rehash(stored)

    def demand_room(self) -> None:
        """Raises SERVICE_BUSY when too many wait; for whatever is written before the password is looked at."""
        if self._busy >= _AT_ONCE + _WAITING:
            raise ApiError(ErrorCode.SERVICE_BUSY, "Too many people are logging in; try again shortly.", headers={"Retry-After": "1"})

    async def _run(self, work: Callable[[], T]) -> T:
        self.demand_room()
        self._busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._busy -= 1


def _fits(password: str, stored: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
