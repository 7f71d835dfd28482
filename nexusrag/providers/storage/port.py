"""The port to a place for objects, and the rule for their keys. Implementations keep bytes; they never see plaintext."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from nexusrag.kernel.errors import ApiError, ErrorCode

PIECE = 1024 * 1024
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_LONGEST_KEY = 512


class Storage(Protocol):
    """Objects by key. An object is there whole or not at all; writing a key again replaces the object in one step.

    A key is segments of letters, digits, `.`, `_` and `-` joined by `/`, each beginning with a letter or digit, at most 512
    characters; anything else is ApiError(BAD_REQUEST). A store that is full or away is ApiError(SERVICE_UNAVAILABLE).
    """

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Store `chunks` under `key` and return the number of bytes.

        After an error `key` holds what it held before; after a cancel that, or (when it came too late) the new object, whole.
        """
        ...

    def get(self, key: str) -> AsyncGenerator[bytes, None]:
        """The object in pieces of at most 1 MiB. The first step raises ApiError(NOT_FOUND) when there is none."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object; nothing happens when there is none."""
        ...

    async def clear(self, key: str) -> None:
        """`delete`, and remove what writers that died left of the object; for a key that nobody writes any more."""
        ...

    async def exists(self, key: str) -> bool: ...

    async def size(self, key: str) -> int:
        """Stored bytes. Raises ApiError(NOT_FOUND)."""
        ...


def checked(key: str) -> str:
    """`key` itself when it follows the rule. Raises ApiError(BAD_REQUEST)."""
    if len(key) > _LONGEST_KEY or _KEY.fullmatch(key) is None:
        raise ApiError(ErrorCode.BAD_REQUEST, "A file's name holds letters, digits, '.', '_', '-' and '/', at most 512 characters.")
    return key


async def pieces(chunks: AsyncIterator[bytes], size: int = PIECE) -> AsyncGenerator[bytes, None]:
    """`chunks` regrouped into pieces of exactly `size` bytes, the last one shorter but never empty."""
    pending = bytearray()
    async for chunk in chunks:
        pending += chunk
        while len(pending) >= size:
            yield bytes(memoryview(pending)[:size])
            del pending[:size]
    if pending:
        yield bytes(pending)
