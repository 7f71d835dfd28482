"""The door: who is refused by the head of a request alone, before anything is made of it, and the heads that were refused a moment ago.

Whoever is served pays for every refusal. A flood often repeats itself, and a head that is byte for byte one that was refused before needs
no parser to be refused again. While many are refused, requests are looked at in groups: one alone finds the caches full of other things,
and leaves them so.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

Headers = list[tuple[bytes, bytes]]
# Whether a request is refused by its method, path and headers alone: the whole answer, without the headers that every answer has, or None.
# The last argument is for what whoever refuses has found out about the credential; the server keeps it with the connection, or the head.
Refuse = Callable[[str, str, Headers, dict[bytes, bytes]], bytes | None]

_END = b"\r\n\r\n"
# Heads have credentials in them, and anybody can send them: few are kept, and not for long.
_MOST = 1000
_LONGEST = 4096
_KEPT_S = 10.0
# Of a crowd the first waits so long for the others, and no longer than for so much.
_GATHERED_S = 0.006
_GATHERED_BYTES = 128 * 1024


class Head(NamedTuple):
    """What `Refuse` is asked with."""

    method: str
    path: str
    headers: Headers
    seen: dict[bytes, bytes]


class Door:
    """`refuse`, the heads that it refused, and who waits while `is_crowded`."""

    def __init__(self, refuse: Refuse, is_crowded: Callable[[], bool] = lambda: False) -> None:
        self.refuse = refuse
        self.is_crowded = is_crowded
        self._refused: dict[bytes, tuple[Head, int]] = {}
        self._waiting: deque[tuple[Callable[[bytes], None], bytes]] = deque()
        self._size = 0

    def gather(self, take: Callable[[bytes], None], piece: bytes) -> None:
        """Call `take(piece)` soon, in the order of these calls."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(_GATHERED_S, self.let_in)
        self._waiting.append((take, piece))
        self._size += len(piece)
        if self._size > _GATHERED_BYTES:
            asyncio.get_running_loop().call_soon(self.let_in)  # not here: its fault would be that of whoever came last

    def let_in(self) -> None:
        """Whoever waits, now."""
        self._size = 0
        try:
            for _ in range(len(self._waiting)):
                take, piece = self._waiting.popleft()
                take(piece)
        finally:
            if self._waiting:  # the fault of one is not the others'
                asyncio.get_running_loop().call_soon(self.let_in)

    def known(self, piece: bytes) -> Head | None:
        """The head of what has come, if that is one whole request, and a head that was refused before."""
        if not self._refused:
            return None
        head, size = self._refused.get(piece[: piece.find(_END, 0, _LONGEST) + len(_END)], (None, 0))
        return head if size == len(piece) else None

    def learn(self, piece: bytes, head: Head) -> None:
        """Whoever sent this was refused; `piece` begins with the head's first line."""
        end = piece.find(_END, 0, _LONGEST)
        if end < 0 or len(self._refused) >= _MOST:
            return
        framing = {name: value for name, value in head.headers if name in (b"content-length", b"transfer-encoding")}
        if b"transfer-encoding" in framing:
            return
        if not self._refused:
            asyncio.get_running_loop().call_later(_KEPT_S, self._refused.clear)
        end += len(_END)
        self._refused[piece[:end]] = head._replace(seen=dict(head.seen)), end + int(framing.get(b"content-length", 0))
