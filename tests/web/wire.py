"""Requests written byte by byte, for what no client library would send."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came off the socket; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        error: Any = json.loads(self.body)["error"]
        return str(error["code"])


async def send_raw(base_url: str, request: bytes, *, body: bool = True, within_s: float = 10) -> RawAnswer:
    """Send `request` as it stands and read one answer, however much of the body was promised and not sent.

    Without `body` the answer has none, whatever length it announces, as to HEAD.
    """
    parts = urlsplit(base_url)
    async with asyncio.timeout(within_s):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(request)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            content = await reader.readexactly(int(headers.get("content-length", "0")) if body else 0)
        finally:
            writer.close()
    return RawAnswer(int(head[0].split(" ")[1]), headers, content)
