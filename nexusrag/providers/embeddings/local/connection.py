"""One connection to the embedding process, shared by any number of requests at once."""

import asyncio
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np

from nexusrag.providers.embeddings.local.weights import HIDDEN, Floats
from nexusrag.providers.embeddings.local.wire import GREETING, Frame, Kind, ProtocolError, pack, pack_texts, read_frame

_GREETING_WITHIN_S = 10.0


class ConnectionLost(Exception):
    """The embedding process went away before it answered. What was asked of it may be asked again."""


class Connection:
    """Open: `await Connection.open(path)`. Lost as soon as the process is gone, for good."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._numbers = count(1)
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, path: Path) -> "Connection":
        """Raises OSError or ConnectionLost when nobody serves, ProtocolError when someone else does, TimeoutError when it hangs."""
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            async with asyncio.timeout(_GREETING_WITHIN_S):
                greeting = await read_frame(reader)
            if greeting.kind is not Kind.HELLO or greeting.payload != GREETING:
                raise ProtocolError("another greeting than ours")
        except asyncio.IncompleteReadError as error:
            writer.close()
            raise ConnectionLost from error
        except BaseException:
            writer.close()
            raise
        return cls(reader, writer)

    @property
    def lost(self) -> bool:
        return self._reading.done()

    async def ask(self, texts: Sequence[str], *, urgent: bool) -> Floats:
        """Vectors of `texts`. Raises ConnectionLost, or ProtocolError when the answer does not fit. A cancel is passed on."""
        if self.lost:
            raise ConnectionLost
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(pack(Kind.URGENT if urgent else Kind.BULK, number, pack_texts(texts)))
            payload = await answer
        except asyncio.CancelledError:
            if not self.lost:
                self._writer.write(pack(Kind.CANCEL, number))
            raise
        finally:
            self._answers.pop(number, None)
        if len(payload) != len(texts) * HIDDEN * np.dtype(np.float32).itemsize:
            raise ProtocolError("vectors for another number of texts")
        return np.frombuffer(payload, np.float32).reshape(len(texts), HIDDEN)

    async def close(self) -> None:
        """Hang up. Requests under way raise ConnectionLost."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while True:
                self._settle(await read_frame(self._reader))
        except (asyncio.IncompleteReadError, ProtocolError, OSError):
            pass
        finally:
            self._writer.close()
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionLost())

    def _settle(self, frame: Frame) -> None:
        answer = self._answers.pop(frame.request, None)
        if frame.kind is not Kind.VECTORS:
            raise ProtocolError(f"{frame.kind.name} out of place")
        if answer is not None and not answer.done():
            answer.set_result(frame.payload)
