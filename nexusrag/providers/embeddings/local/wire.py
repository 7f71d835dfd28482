"""What goes over the socket: frames of payload length (u32), request id (u64) and kind (u8), little-endian, then the payload.

The server greets with HELLO. URGENT and BULK carry texts and are answered, in any order, by VECTORS (raw float32) or REFUSED
(a reason) under the same id. CANCEL has no payload and no answer.
"""

import asyncio
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

_HEADER = struct.Struct("<IQB")
_COUNT = struct.Struct("<I")

# Changes with the protocol and with the model: both ends must agree on both.
GREETING = b"nexusrag-embed 1 local/all-MiniLM-L6-v2"
LARGEST_FRAME = 8 * 1024 * 1024
MOST_TEXTS = 1024


class Kind(IntEnum):
    HELLO = 1
    URGENT = 2
    BULK = 3
    CANCEL = 4
    VECTORS = 5
    REFUSED = 6


class Frame(NamedTuple):
    kind: Kind
    request: int
    payload: bytes


class ProtocolError(Exception):
    """The other side does not speak this protocol; the connection is of no more use."""


def pack(kind: Kind, request: int = 0, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEADER.pack(len(payload), request, kind) + payload


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame. Raises ProtocolError before it reads an oversized payload, IncompleteReadError at the end of the stream."""
    length, request, number = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    if length > LARGEST_FRAME:
        raise ProtocolError(f"a frame of {length} bytes; {LARGEST_FRAME} are allowed")
    try:
        kind = Kind(number)
    except ValueError:
        raise ProtocolError(f"a frame of the unknown kind {number}") from None
    return Frame(kind, request, await reader.readexactly(length))


def pack_texts(texts: Sequence[str]) -> bytes:
    """Payload of URGENT and BULK: number of texts and the length of each (u32), then their UTF-8. Lone surrogates become `?`."""
    encoded = [text.encode(errors="replace") for text in texts]
    return struct.pack(f"<{len(encoded) + 1}I", len(encoded), *map(len, encoded)) + b"".join(encoded)


def unpack_texts(payload: bytes) -> list[str]:
    """The texts of a payload. Raises ProtocolError when it is malformed."""
    if len(payload) < _COUNT.size:
        raise ProtocolError("a list of texts without its length")
    (count,) = _COUNT.unpack_from(payload)
    start = _COUNT.size * (count + 1)
    if not 0 < count <= MOST_TEXTS or len(payload) < start:
        raise ProtocolError(f"a list of {count} texts in {len(payload)} bytes")
    texts = []
    for length in struct.unpack_from(f"<{count}I", payload, _COUNT.size):
        texts.append(payload[start : start + length].decode(errors="replace"))
        start += length
    if start != len(payload):
        raise ProtocolError("texts that do not fill their payload")
    return texts
