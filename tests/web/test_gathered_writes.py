"""What is written in one turn of the loop goes out in one piece, and nothing of it is lost when the connection is closed."""

import asyncio
from typing import cast

import pytest

from nexusrag.web import server
from nexusrag.web.server import _Gathered


class Wire:
    """A transport that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[bytes] = []

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def close(self) -> None:
        self.told.append(b"closed")

    def abort(self) -> None:
        self.told.append(b"aborted")


def gathered() -> tuple[_Gathered, Wire]:
    wire = Wire()
    return _Gathered(cast(asyncio.Transport, wire), asyncio.get_running_loop()), wire


async def test_one_turn_is_one_piece() -> None:
    transport, wire = gathered()
    transport.write(b"head ")
    transport.write(b"body")
    assert wire.told == []
    await asyncio.sleep(0)
    transport.write(b"more")
    await asyncio.sleep(0)
    assert wire.told == [b"head body", b"more"]


async def test_a_whole_answer_does_not_wait_but_for_what_was_written_before_it() -> None:
    transport, wire = gathered()
    transport.write_whole(b"first")
    assert wire.told == [b"first"]
    transport.write(b"second ")
    transport.write_whole(b"third")
    assert wire.told == [b"first"]
    await asyncio.sleep(0)
    assert wire.told == [b"first", b"second third"]


async def test_much_goes_out_at_once() -> None:
    transport, wire = gathered()
    transport.write(b"head")
    transport.write(b"x" * 65536)
    assert [len(piece) for piece in wire.told] == [65540]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert wire.told[1:] == [b"more"]


async def test_what_was_written_goes_out_before_the_end() -> None:
    transport, wire = gathered()
    transport.write(b"last")
    transport.close()
    await asyncio.sleep(0)
    assert wire.told == [b"last", b"closed"]


async def test_whoever_is_cut_off_is_sent_nothing_more() -> None:
    transport, wire = gathered()
    transport.write(b"last")
    transport.abort()
    await asyncio.sleep(0)
    assert wire.told == [b"aborted"]


async def test_a_connection_that_has_sent_all_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_STALL_S", 0.01)
    transport, wire = gathered()
    transport.close()
    await asyncio.sleep(0.05)
    assert wire.told == [b"closed"]
