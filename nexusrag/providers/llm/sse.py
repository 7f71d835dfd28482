"""Server-sent events as model endpoints write them: bytes in, the data of whole events out."""

import json
from typing import Any

import orjson

LONGEST_EVENT = 1024 * 1024


class BrokenStream(ValueError):
    """The stream cannot be read on."""


class Events:
    """Takes a stream apart, however it was cut into reads. Works on bytes, so a character split between reads stays whole."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that `chunk` completes. Raises BrokenStream for an event beyond LONGEST_EVENT bytes."""
        end = chunk.rfind(b"\n")
        if end < 0:
            self._keep(chunk)
            return []
        lines = (bytes(self._rest) + chunk[:end]).split(b"\n")
        self._rest.clear()
        self._keep(chunk[end + 1 :])
        done: list[bytes] = []
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if not line:
                if self._data:
                    done.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                    self._data.clear()
                    self._size = 0
            elif line.startswith(b"data:"):
                self._size += len(line)
                if self._size > LONGEST_EVENT:
                    raise BrokenStream("sends an event without end")
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        return done

    def _keep(self, part: bytes) -> None:
        self._rest += part
        if len(self._rest) > LONGEST_EVENT:
            raise BrokenStream("sends a line without end")


def parse(payload: bytes) -> Any:
    """`payload` as JSON, taking invalid UTF-8 and halves of surrogate pairs, which orjson refuses. Raises ValueError."""
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            return json.loads(payload.decode("utf-8", "replace"))
        except RecursionError:
            raise ValueError("nested too deeply") from None
