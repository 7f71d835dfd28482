"""What a sandbox and its child say to each other: frames of a length and JSON. Never pickle: the child is not trusted.

Light on purpose: every child imports it.
"""

import struct
from dataclasses import dataclass
from typing import Any

import orjson

HEADER = struct.Struct(">I")
MAX_FRAME = 16 * 1024 * 1024
"""Bytes of one frame; chunks are sent in batches far below."""


@dataclass(frozen=True, slots=True)
class Request:
    """One document; its file goes along as an open descriptor."""

    media_type: str
    size_chars: int
    overlap_chars: int


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What a child may use, for its whole life or for one document."""

    memory_mb: int
    cpu_seconds: int
    max_pages: int
    max_chars: int
    max_chunks: int
    table_seconds: float


def frame(message: dict[str, Any]) -> bytes:
    """`message` with its length before it."""
    body = orjson.dumps(message)
    return HEADER.pack(len(body)) + body
