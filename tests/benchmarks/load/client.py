"""HTTP as a load generator needs it: five times cheaper than a library, so that one processor offers what another cannot answer."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import orjson


class Client:
    """Connections to one address, kept while they are good. Reads whole bodies, with a length or in chunks, and nothing else of HTTP."""

    def __init__(self, url: str, *, within_s: float = 20.0) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._within_s = within_s
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """Status and body. Raises OSError, EOFError or TimeoutError."""
        content = b"" if body is None else orjson.dumps(body)
        lines = [f"{method} {path} HTTP/1.1", "Host: load", *(f"{name}: {value}" for name, value in headers.items())]
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
        async with asyncio.timeout(self._within_s):
            reader, writer = await self._connection()
            try:
                writer.write("\r\n".join(lines).encode() + content)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
                answer = await reader.readexactly(int(length)) if length else await _chunks(reader)
            except BaseException:
                writer.transport.abort()
                raise
        if b"\r\nconnection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head[9:12]), answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            held = self._idle.pop()
            if not held[0].at_eof():  # the server ends what was idle for long
                return held
            held[1].close()
        return await asyncio.open_connection(self._host, self._port)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int(await reader.readline(), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(pieces)
