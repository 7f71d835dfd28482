"""Objects in a directory: atomic, private, bounded, and clean after whatever goes wrong."""

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.storage.directory import DirectoryStorage
from nexusrag.providers.storage.port import PIECE, pieces
from nexusrag.providers.storage.threads import T, Threads


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    return DirectoryStorage(tmp_path / "blobs")


async def stream(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def content(storage: DirectoryStorage, key: str) -> bytes:
    return b"".join([part async for part in storage.get(key)])


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
async def test_what_is_put_comes_back(storage: DirectoryStorage, size: int) -> None:
    data = os.urandom(size)
    assert await storage.put("t1/doc_1", stream(data[:100], data[100:])) == size
    assert await content(storage, "t1/doc_1") == data
    assert await storage.size("t1/doc_1") == size
    assert await storage.exists("t1/doc_1")


async def test_a_missing_object_is_not_found_and_deleting_it_is_fine(storage: DirectoryStorage) -> None:
    await storage.delete("t1/none")
    assert not await storage.exists("t1/none")
    for attempt in (content(storage, "t1/none"), storage.size("t1/none")):
        with pytest.raises(ApiError) as missing:
            await attempt
        assert missing.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("remove", [DirectoryStorage.delete, DirectoryStorage.clear])
async def test_removing_removes_the_object_alone(
    storage: DirectoryStorage, remove: Callable[[DirectoryStorage, str], Awaitable[None]]
) -> None:
    await storage.put("t1/a", stream(b"a"))
    await storage.put("t1/b", stream(b"b"))
    await remove(storage, "t1/a")
    assert not await storage.exists("t1/a")
    assert await content(storage, "t1/b") == b"b"


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "/etc/passwd",
        "a//b",
        "a/",
        "a\0b",
        "a b",
        "a\\b",
        "é",
        "-x",
        "a/.hidden",
        "a\n",
        "x" * 513,
    ],
)
async def test_keys_outside_the_rule_are_refused(storage: DirectoryStorage, key: str) -> None:
    for attempt in (storage.put(key, stream(b"x")), content(storage, key), storage.exists(key), storage.delete(key)):
        with pytest.raises(ApiError) as refused:
            await attempt
        assert refused.value.code is ErrorCode.BAD_REQUEST


async def test_names_that_a_file_system_confuses_stay_apart(storage: DirectoryStorage) -> None:
    keys = ["t1/A", "t1/a", "t1/a.", "t1/a..b", "t1/con", "t1/" + "x" * 509]
    for key in keys:
        await storage.put(key, stream(key.encode()))
    assert [await content(storage, key) for key in keys] == [key.encode() for key in keys]


async def test_only_the_owner_can_read_or_list(storage: DirectoryStorage, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        await storage.put("t1/a", stream(b"a"))
        DirectoryStorage(tmp_path / "second")
    finally:
        os.umask(before)
    for path in [tmp_path / "second", *(tmp_path / "blobs").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


async def test_a_failing_source_leaves_the_old_object_and_nothing_else(storage: DirectoryStorage, tmp_path: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield bytes(2 * PIECE)
        raise RuntimeError("source broke")

    await storage.put("t1/a", stream(b"old"))
    with pytest.raises(RuntimeError, match="source broke"):
        await storage.put("t1/a", breaking())
    with pytest.raises(RuntimeError, match="source broke"):
        await storage.put("t1/b", breaking())
    assert await content(storage, "t1/a") == b"old"
    assert len(files(tmp_path)) == 1


class CancelsAt(Threads):
    """Cancels the calling task in its n-th blocking call, while that call is running."""

    def __init__(self, call: int) -> None:
        super().__init__(2)
        self.left = call

    async def run(self, work: Callable[[], T]) -> T:
        self.left -= 1
        if self.left == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        return await super().run(work)


async def test_a_cancel_in_any_step_leaves_a_whole_object_or_none(storage: DirectoryStorage, tmp_path: Path) -> None:
    data = os.urandom(2 * PIECE + 5)
    for step in range(1, 20):
        storage._threads = CancelsAt(step)
        writing = asyncio.create_task(storage.put("t1/a", stream(data)))
        await asyncio.wait([writing], timeout=30)
        storage._threads = Threads(2)
        assert not list((tmp_path / "blobs" / "partial").iterdir())
        if await storage.exists("t1/a"):
            assert await content(storage, "t1/a") == data
            await storage.delete("t1/a")
        if not writing.cancelled():
            break
    assert not writing.cancelled()
    assert step == 5  # three writes, the first with the creation, and the commit: each was cancelled once
    assert not files(tmp_path)


async def test_a_cancelled_reader_closes_its_file(storage: DirectoryStorage) -> None:
    await storage.put("t1/a", stream(bytes(3 * PIECE)))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for step in (1, 2, 3):
        storage._threads = CancelsAt(step)
        reading = asyncio.create_task(content(storage, "t1/a"))
        await asyncio.wait([reading], timeout=30)
        assert reading.cancelled()
    # Fewer are of something else that was closed meanwhile.
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


async def test_concurrent_writers_of_one_key_leave_one_of_their_objects(storage: DirectoryStorage, tmp_path: Path) -> None:
    versions = [bytes([number]) * (PIECE + number) for number in range(12)]
    await asyncio.gather(*(storage.put("t1/a", stream(version)) for version in versions))
    assert await content(storage, "t1/a") in versions
    assert len(files(tmp_path)) == 1


async def test_a_reader_keeps_its_object_while_it_is_replaced_and_deleted(storage: DirectoryStorage) -> None:
    old = os.urandom(3 * PIECE)
    await storage.put("t1/a", stream(old))
    reader = storage.get("t1/a")
    got = await anext(reader)
    await storage.put("t1/a", stream(b"new"))
    await storage.delete("t1/a")
    assert got + b"".join([part async for part in reader]) == old


async def opened(storage: DirectoryStorage) -> None:
    DirectoryStorage(storage._objects.parent)


async def cleared(storage: DirectoryStorage) -> None:
    await storage.clear("t1/other")


@pytest.mark.parametrize("cleaning", [opened, cleared])
async def test_cleaning_removes_what_a_crash_left_and_spares_a_living_writer(
    storage: DirectoryStorage, tmp_path: Path, cleaning: Callable[[DirectoryStorage], Awaitable[None]]
) -> None:
    partial = tmp_path / "blobs" / "partial"
    (partial / "left-by-a-crash").write_bytes(b"x" * 100)
    half, whole = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(PIECE)
        half.set()
        await whole.wait()
        yield b"end"

    writing = asyncio.create_task(storage.put("t1/a", slow()))
    await half.wait()
    await cleaning(storage)
    assert len(list(partial.iterdir())) == 1
    whole.set()
    assert await writing == PIECE + 3
    assert not list(partial.iterdir())


@pytest.mark.slow
def test_a_killed_writer_leaves_nothing_after_the_next_start(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from nexusrag.providers.storage.directory import DirectoryStorage
async def endless():
    yield bytes(3 << 20)
    print("writing", flush=True)
    await asyncio.sleep(3600)
asyncio.run(DirectoryStorage(Path(sys.argv[1])).put("t1/a", endless()))
"""
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        writer.kill()
    assert len(files(tmp_path)) == 1
    DirectoryStorage(tmp_path)
    assert not files(tmp_path)


@pytest.mark.slow
def test_a_full_disk_is_a_clean_answer_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on file size fails a write in its middle, as a full disk does."""
    script = """
import asyncio, resource, sys
from pathlib import Path
from nexusrag.kernel.errors import ApiError
from nexusrag.providers.storage.directory import DirectoryStorage
resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, 2_500_000))
async def chunks(n):
    for _ in range(n):
        yield bytes(100_000)
async def main():
    storage = DirectoryStorage(Path(sys.argv[1]))
    await storage.put("t1/a", chunks(3))
    for key in ("t1/a", "t1/b"):
        try:
            await storage.put(key, chunks(40))
        except ApiError as error:
            print(error.code, error.message)
    print(await storage.size("t1/a"), await storage.exists("t1/b"))
asyncio.run(main())
"""
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr
    assert [line.split()[0] for line in lines] == ["SERVICE_UNAVAILABLE", "SERVICE_UNAVAILABLE", "300000"]
    assert "full" in lines[0]
    assert str(tmp_path) not in run.stdout
    assert lines[2] == "300000 False"
    assert len(files(tmp_path)) == 1


async def test_an_unusable_directory_is_a_clean_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(ApiError) as refused:
        DirectoryStorage(tmp_path / "file")
    assert refused.value.code is ErrorCode.SERVICE_UNAVAILABLE
    assert str(tmp_path) not in refused.value.message


async def test_no_descriptor_stays_open(storage: DirectoryStorage, tmp_path: Path) -> None:
    for number in range(20):
        await storage.put(f"t1/{number}", stream(bytes(2 * PIECE)))
        reader = storage.get(f"t1/{number}")
        await anext(reader)
        await reader.aclose()
    open_files = [os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()]  # others of this process come and go
    assert not [one for one in open_files if Path(one).is_relative_to(tmp_path)]


async def test_pieces_are_full_but_for_the_last() -> None:
    parts = [b"a" * 3, b"b" * 9, b"", b"c" * 4]
    assert [part async for part in pieces(stream(*parts), 4)] == [b"aaab", b"bbbb", b"bbbb", b"cccc"]
    assert [part async for part in pieces(stream(b"abc", b"de"), 4)] == [b"abcd", b"e"]
    assert [part async for part in pieces(stream(), 4)] == []


async def test_a_writer_holds_the_lock_of_its_partial_file(storage: DirectoryStorage, tmp_path: Path) -> None:
    async def looking() -> AsyncIterator[bytes]:
        yield bytes(PIECE)
        (partial,) = (tmp_path / "blobs" / "partial").iterdir()
        with partial.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    await storage.put("t1/a", looking())
