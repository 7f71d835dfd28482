"""The parser processes: reuse, limits, and documents that crash, hang or swell."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from reportlab.platypus import PageBreak

from nexusrag.knowledge.parsing.formats.model import ParseError
from nexusrag.knowledge.parsing.sandbox import ChunkParams, ParseCrash, ParsedResult, Progress, Sandbox
from nexusrag.settings.ingestion import IngestionSettings
from tests.knowledge.parsing.formats.samples import body, flate_bomb, pdf

pytestmark = pytest.mark.slow

PARAMS = ChunkParams(1200, 150)
WORDS = b"A small text. It has two sentences."
# Lexbor needs time quadratic in the depth: minutes for this page.
HOG = b"<div>" * 200_000
PDF = "application/pdf"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(IngestionSettings(), 1) as pool:
        yield pool


class Files:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, data: bytes) -> Path:
        path = self.folder / f"{len(list(self.folder.iterdir()))}"
        path.write_bytes(data)
        return path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def run(
    pool: Sandbox, path: Path, media_type: str = "text/plain", progress: Callable[[Progress], None] | None = None
) -> ParsedResult:
    with path.open("rb") as source:
        return await pool.run(source, media_type, PARAMS, progress)


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def becoming_busy(pid: int) -> Callable[[], bool]:
    """Whether the process has worked for a while since now; what starting took is not to be told from a document."""
    process = psutil.Process(pid)
    before = process.cpu_times().user
    return lambda: bool(process.cpu_times().user > before + 0.2)


async def test_result_holds_chunks_and_counts_and_the_child_is_used_again(sandbox: Sandbox, files: Files) -> None:
    result = await run(sandbox, files.put(WORDS))
    assert [(piece.text, piece.start, piece.end) for piece in result.chunks] == [(WORDS.decode(), 0, len(WORDS))]
    assert (result.pages, result.chars) == (None, len(WORDS))
    (pid,) = sandbox.pids()
    pages = await run(sandbox, files.put(pdf(body("One."), PageBreak(), body("Two."))), PDF)
    assert (pages.pages, pages.chunks[0].page, pages.chunks[0].page_end) == (2, 1, 2)
    assert sandbox.pids() == [pid]


async def test_reason_of_a_refusal_arrives_and_the_child_is_kept(sandbox: Sandbox, files: Files) -> None:
    await run(sandbox, files.put(WORDS))
    before = sandbox.pids()
    with pytest.raises(ParseError) as failed:
        await run(sandbox, files.put(b"\xff\xfe\xfa"))
    assert not isinstance(failed.value, ParseCrash)
    assert "UTF-16" in failed.value.reason
    assert sandbox.pids() == before


async def test_segmentation_fault_fails_one_document_and_not_its_neighbours(files: Files) -> None:
    async with Sandbox(IngestionSettings(), 2) as pool:
        await run(pool, files.put(WORDS))
        (pid,) = pool.pids()
        is_busy = becoming_busy(pid)
        poison = asyncio.create_task(run(pool, files.put(HOG), "text/html"))
        await until(is_busy)
        neighbour = asyncio.create_task(run(pool, files.put(WORDS)))
        os.kill(pid, signal.SIGSEGV)
        with pytest.raises(ParseCrash) as crashed:
            await poison
        assert "made the parser fail" in crashed.value.reason
        assert crashed.value.detail == f"exit -{signal.SIGSEGV}"
        assert (await neighbour).chars == len(WORDS)
        assert (await run(pool, files.put(WORDS))).chars == len(WORDS)
        assert pid not in pool.pids()


async def test_processor_hog_is_killed_at_the_time_limit(files: Files) -> None:
    async with Sandbox(IngestionSettings(parse_timeout_s=0.5), 1) as pool:
        await run(pool, files.put(WORDS))
        (pid,) = pool.pids()
        with pytest.raises(ParseCrash, match=r"longer than 0.5 seconds; split it"):
            await run(pool, files.put(HOG), "text/html")
        assert gone(pid)
        assert (await run(pool, files.put(WORDS))).chars == len(WORDS)


async def test_memory_hog_is_refused_with_the_limit(files: Files) -> None:
    async with Sandbox(IngestionSettings(parse_memory_mb=128), 1) as pool:
        with pytest.raises(ParseCrash, match=r"more than 128 MB of memory"):
            await run(pool, files.put(b"words " * 12_000_000))
        assert (await run(pool, files.put(WORDS))).chars == len(WORDS)


async def test_pdf_bomb_stays_inside_its_limits(files: Files) -> None:
    async with Sandbox(IngestionSettings(parse_timeout_s=20, parse_memory_mb=256), 1) as pool:
        with pytest.raises(ParseCrash):
            await run(pool, files.put(flate_bomb(100)), PDF)
        assert (await run(pool, files.put(WORDS))).chars == len(WORDS)


async def test_too_many_chunks_are_refused(files: Files) -> None:
    async with Sandbox(IngestionSettings(parse_max_chunks=10), 1) as pool:
        with files.put(WORDS).open("rb") as source, pytest.raises(ParseError, match="more than 10 chunks"):
            await pool.run(source, "text/plain", ChunkParams(2, 0))


async def test_child_that_died_while_idle_is_replaced(sandbox: Sandbox, files: Files) -> None:
    await run(sandbox, files.put(WORDS))
    (pid,) = sandbox.pids()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: gone(pid))
    assert (await run(sandbox, files.put(WORDS))).chars == len(WORDS)


async def test_cancelled_run_takes_its_child_along(sandbox: Sandbox, files: Files) -> None:
    await run(sandbox, files.put(WORDS))
    (pid,) = sandbox.pids()
    is_busy = becoming_busy(pid)
    task = asyncio.create_task(run(sandbox, files.put(HOG), "text/html"))
    await until(is_busy)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: gone(pid))
    assert (await run(sandbox, files.put(WORDS))).chars == len(WORDS)


async def test_progress_is_reported_by_pages_and_chunks(sandbox: Sandbox, files: Files) -> None:
    seen: list[Progress] = []
    flowables = [flowable for _ in range(150) for flowable in (body("Some words on a page. " * 40), PageBreak())]
    result = await run(sandbox, files.put(pdf(*flowables)), PDF, seen.append)
    assert seen[-1].chunks == len(result.chunks) > 100
    assert [step.chunks for step in seen] == sorted(step.chunks for step in seen)


async def test_child_has_no_secrets_no_network_and_no_files_of_ours(sandbox: Sandbox, files: Files) -> None:
    await run(sandbox, files.put(WORDS))
    child = psutil.Process(sandbox.pids()[0])
    assert set(child.environ()) <= {"PYTHONPATH", "PYTHONUTF8", "MALLOC_ARENA_MAX", "LC_CTYPE"}
    limits = {name: child.rlimit(getattr(psutil, name)) for name in ("RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_CORE")}
    assert limits == {"RLIMIT_AS": (512 << 20, 512 << 20), "RLIMIT_FSIZE": (0, 0), "RLIMIT_CORE": (0, 0)}
    assert len(child.net_connections("inet")) == 0


PROBE = """
import os, socket, sys
from pathlib import Path
from nexusrag.knowledge.parsing.sandbox_limits import confine
granted = confine(os.getppid(), 512, [Path(entry) for entry in sys.path if entry != sys.argv[1]])
def works(action):
    try:
        action()
        return True
    except OSError:
        return False
def connect():
    socket.create_connection(("127.0.0.1", int(sys.argv[3])), 2).close()
def write():
    with open(sys.argv[2], "a") as file:
        file.write("x")
print(granted["files"], works(lambda: open(sys.argv[2]).read()), granted["network"], works(connect), works(write))
"""


async def test_confined_process_cannot_read_write_or_connect(files: Files) -> None:
    secret = files.put(b"secret")
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    root = str(Path(__file__).parents[4])
    arguments = [sys.executable, "-P", "-c", PROBE, root, str(secret), str(server.sockets[0].getsockname()[1])]
    async with server:
        ran = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, env={"PYTHONPATH": root}, check=True)
    files_taken, read, network_taken, connected, wrote = (word == "True" for word in ran.stdout.split())
    assert read is not files_taken
    assert connected is not network_taken
    assert not wrote
    assert secret.read_bytes() == b"secret"


PARENT = """
import asyncio, sys
from pathlib import Path
from nexusrag.knowledge.parsing.sandbox import ChunkParams, Sandbox
from nexusrag.settings.ingestion import IngestionSettings
async def main():
    pool = Sandbox(IngestionSettings(), 1)
    await pool.run(open(sys.argv[1], "rb"), "text/plain", ChunkParams(1200, 150))
    print(*pool.pids(), flush=True)
    await pool.run(open(sys.argv[2], "rb"), "text/html", ChunkParams(1200, 150))
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_child_busy_in_native_code_dies_with_its_parent(files: Files) -> None:
    root = str(Path(__file__).parents[4])
    arguments = [sys.executable, "-c", PARENT, str(files.put(WORDS)), str(files.put(HOG))]
    parent = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE, env={"PYTHONPATH": root})
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    await until(becoming_busy(pid))
    parent.kill()
    await parent.wait()
    await until(lambda: gone(pid))


async def test_closing_ends_every_child(files: Files) -> None:
    pool = Sandbox(IngestionSettings(), 2)
    path = files.put(WORDS)
    await asyncio.gather(run(pool, path), run(pool, path))
    pids = pool.pids()
    await pool.close()
    assert pids
    assert all(gone(pid) for pid in pids)


async def test_fault_in_a_parser_names_its_place_and_none_of_its_words(sandbox: Sandbox, files: Files) -> None:
    with files.put(WORDS).open("rb") as source, pytest.raises(ParseCrash) as crashed:
        await sandbox.run(source, "text/plain", ChunkParams("1200", 150))  # type: ignore[arg-type]
    assert crashed.value.detail.startswith("TypeError at chunking.py:")
    assert sandbox.pids() == []
