"""The embedding process's side of the socket, with a model that computes nothing: good clients are served, bad ones harm nobody."""

import asyncio
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nexusrag.providers.embeddings.local import server as serving
from nexusrag.providers.embeddings.local.connection import Connection, ConnectionLost
from nexusrag.providers.embeddings.local.server import Server
from nexusrag.providers.embeddings.local.wire import LARGEST_FRAME, Kind, ProtocolError, pack, pack_texts, read_frame, unpack_texts
from tests.providers.embeddings.stand_in import StandInModel

WITHIN_S = 30


@pytest.fixture
def path() -> Iterator[Path]:
    directory = tempfile.mkdtemp(prefix="nexusrag-test-")  # tmp_path is too long for a socket
    yield Path(directory) / "embed.sock"
    shutil.rmtree(directory)


@pytest.fixture
def model() -> StandInModel:
    return StandInModel()


@pytest.fixture
async def server(path: Path, model: StandInModel) -> Server:
    return Server(model, path, 1)


@pytest.fixture
async def running(path: Path, server: Server, model: StandInModel) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(server.run())
    while not path.exists():
        await asyncio.sleep(0.005)
    yield task
    model.gate.set()
    server.end()
    await asyncio.wait_for(task, WITHIN_S)


@pytest.fixture
async def connection(path: Path, running: "asyncio.Task[None]") -> AsyncIterator[Connection]:
    made = await Connection.open(path)
    yield made
    await made.close()


async def test_many_requests_share_a_connection(connection: Connection) -> None:
    sizes = range(1, 41)
    answers = await asyncio.gather(*(connection.ask(["x " * size, "y"], urgent=size % 3 == 0) for size in sizes))
    assert [answer[:, 0].tolist() for answer in answers] == [[size, 1] for size in sizes]


async def test_an_urgent_request_is_answered_before_bulk_that_came_first(
    server: Server, connection: Connection, model: StandInModel
) -> None:
    order: list[str] = []

    async def ask(name: str, texts: list[str], urgent: bool) -> None:
        await connection.ask(texts, urgent=urgent)
        order.append(name)

    model.gate.clear()
    first = asyncio.create_task(ask("first", ["x"], False))
    await asyncio.to_thread(model.entered.wait, WITHIN_S)
    later = [asyncio.create_task(ask("bulk", ["x"], False)), asyncio.create_task(ask("question", ["x"], True))]
    await _queued(server, 2)
    model.gate.set()
    await asyncio.gather(first, *later)
    assert order == ["first", "question", "bulk"]


async def test_a_cancelled_request_is_not_computed(server: Server, connection: Connection, model: StandInModel) -> None:
    model.gate.clear()
    first = asyncio.create_task(connection.ask(["x"], urgent=False))
    await asyncio.to_thread(model.entered.wait, WITHIN_S)
    dropped = asyncio.create_task(connection.ask(["dropped"], urgent=False))
    await _queued(server, 1)
    dropped.cancel()
    last = asyncio.create_task(connection.ask(["last"], urgent=False))
    await _queued(server, 2)  # frames are read in order: the cancel was, too
    model.gate.set()
    await asyncio.gather(first, last)
    assert dropped.cancelled()
    assert model.batches == [[[1]], [[4]]]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: embed\r\n\r\n", id="another protocol"),
        pytest.param(pack(Kind.BULK, 1, b"")[:4] + bytes(8) + b"\xff", id="unknown kind"),
        pytest.param(struct.pack("<IQB", LARGEST_FRAME + 1, 1, Kind.BULK), id="oversized frame"),
        pytest.param(pack(Kind.BULK, 1, b"abc"), id="no count"),
        pytest.param(pack(Kind.BULK, 1, struct.pack("<I", 0)), id="no texts"),
        pytest.param(pack(Kind.BULK, 1, struct.pack("<I", 2**32 - 1)), id="count beyond the payload"),
        pytest.param(pack(Kind.BULK, 1, struct.pack("<III", 2, 5, 2**32 - 1) + b"abcde"), id="length beyond the payload"),
        pytest.param(pack(Kind.BULK, 1, pack_texts(["a"]) + b"more"), id="more than the texts"),
        pytest.param(pack(Kind.VECTORS, 1), id="an answer"),
    ],
)
async def test_nonsense_is_refused_and_the_others_are_served(path: Path, connection: Connection, sent: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    assert (await read_frame(reader)).kind is Kind.HELLO
    writer.write(sent)
    assert (await asyncio.wait_for(read_frame(reader), WITHIN_S)).kind is Kind.REFUSED
    assert await asyncio.wait_for(reader.read(), WITHIN_S) == b""
    writer.close()
    assert (await connection.ask(["two words"], urgent=True))[0, 0] == 2


async def test_a_peer_that_hangs_up_in_the_middle_is_forgotten(path: Path, connection: Connection, model: StandInModel) -> None:
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(pack(Kind.BULK, 1, pack_texts(["x"])) + b"\x10\x00\x00")
    await asyncio.to_thread(model.entered.wait, WITHIN_S)
    writer.close()
    assert (await connection.ask(["two words"], urgent=True))[0, 0] == 2


async def test_the_server_ends_when_nobody_is_connected(
    path: Path, running: "asyncio.Task[None]", connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_UNUSED_S", 0.0)
    monkeypatch.setattr(serving, "_LOOK_EVERY_S", 0.01)
    assert (await connection.ask(["x"], urgent=True)).shape == (1, 384)
    assert not running.done()
    await connection.close()
    await asyncio.wait_for(running, WITHIN_S)
    assert not path.exists()


async def test_the_server_ends_when_its_socket_was_replaced_and_leaves_the_new_one(
    path: Path, running: "asyncio.Task[None]", connection: Connection
) -> None:
    path.rename(path.with_name("moved"))
    path.touch()
    await asyncio.wait_for(running, WITHIN_S)
    assert path.exists()


async def test_the_server_ends_when_its_model_fails(
    connection: Connection, running: "asyncio.Task[None]", model: StandInModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    monkeypatch.setattr(model, "tokenise", None)
    with pytest.raises((ConnectionLost, asyncio.CancelledError)):
        async with asyncio.timeout(WITHIN_S):
            asking = asyncio.create_task(connection.ask(["x"], urgent=True))
            await running
            await connection.close()
            await asking


def test_texts_come_back_as_they_were_but_for_lone_surrogates() -> None:
    texts = ["", "a", "naïve 日本語 🙂", "nul \0 and \r\n"]
    assert unpack_texts(pack_texts(texts)) == texts
    assert unpack_texts(pack_texts(["lone \ud800"])) == ["lone ?"]


async def test_a_greeting_of_another_version_is_not_talked_to(path: Path) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(pack(Kind.HELLO, payload=b"nexusrag-embed 0"))

    other = await asyncio.start_unix_server(greet, path)
    with pytest.raises(ProtocolError):
        await Connection.open(path)
    other.close()


async def _queued(server: Server, jobs: int) -> None:
    """Return when `jobs` jobs wait behind the one that the model is held at."""
    async with asyncio.timeout(WITHIN_S):
        while server._scheduler._inbox.qsize() < jobs:
            await asyncio.sleep(0.005)
