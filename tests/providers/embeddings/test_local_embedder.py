"""The embedding process for real: one per socket, found or started by whoever needs it, and gone when nobody does."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.embeddings.local import client, weights
from nexusrag.providers.embeddings.local.client import LocalEmbedder, open_local

pytestmark = pytest.mark.slow

WITHIN_S = 60
CHILD = """
import asyncio, sys
from pathlib import Path
from nexusrag.providers.embeddings.local.client import open_local
async def main():
    embedder = open_local(Path(sys.argv[1]), Path(sys.argv[2]), 1)
    print((await embedder.embed(["hello"]))[0, 0])
    await embedder.close()
asyncio.run(main())
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory for socket and log. Embedding processes that serve in it are ended afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="nexusrag-test-"))  # tmp_path is too long for a socket
    yield directory
    for process in servers(directory):
        process.kill()
        gone(process)
    shutil.rmtree(directory)


def opened(home: Path) -> LocalEmbedder:
    return open_local(home / "run" / "embed.sock", home / "run" / "embed.log", 1)


def servers(home: Path) -> list[psutil.Process]:
    """The living embedding processes of `home`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        if str(home / "run" / "embed.sock") in command and "--socket" in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def gone(process: psutil.Process) -> None:
    """Return when `process` has ended. It may be a child of ours, that nobody waited for."""
    deadline = monotonic() + WITHIN_S
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert monotonic() < deadline
        sleep(0.02)


async def test_it_is_started_once_found_by_the_next_and_ends_when_unused(home: Path) -> None:
    first, second = opened(home), opened(home)
    assert servers(home) == []
    vectors = await first.embed(["This is an example sentence", ""], urgent=True)
    again = await second.embed(["", "This is an example sentence"])
    np.testing.assert_allclose(vectors, again[::-1], atol=1e-5)
    assert vectors[0, 0] == pytest.approx(0.0676569, abs=2e-6)
    (process,) = servers(home)
    assert (home / "run" / "embed.sock").stat().st_mode & 0o077 == 0
    assert os.getsid(process.pid) == process.pid
    await first.close()
    await second.close()
    await asyncio.to_thread(gone, process)
    assert not (home / "run" / "embed.sock").exists()


async def test_processes_that_start_it_at_once_get_one(home: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(home / "run" / "embed.sock"), str(home / "run" / "embed.log")]
    root = Path(client.__file__).parents[4]
    children = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [await asyncio.to_thread(child.communicate, timeout=WITHIN_S) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len({output for output, _ in outputs}) == 1
    assert (home / "run" / "embed.log").read_text().count("serving") == 1
    assert len(servers(home)) == 1


async def test_a_request_survives_the_death_of_the_process(home: Path) -> None:
    embedder = opened(home)
    expected = await embedder.embed(["some words " * 20])
    (process,) = servers(home)
    under_way = asyncio.create_task(embedder.embed([f"{number} " + "some words " * 100 for number in range(40)]))
    question = asyncio.create_task(embedder.embed(["some words " * 20], urgent=True))
    while not embedder._connection or len(embedder._connection._answers) < 2:
        await asyncio.sleep(0)
    process.send_signal(signal.SIGKILL)
    np.testing.assert_allclose(await question, expected, atol=1e-5)
    assert (await under_way).shape == (40, 384)
    (successor,) = servers(home)
    assert successor.pid != process.pid
    await embedder.close()


async def test_many_texts_come_back_in_their_order(home: Path) -> None:
    embedder = opened(home)
    texts = [f"number {number} " + "and more " * (number * 7 % 11) for number in range(150)]
    together = await embedder.embed(texts)
    chosen = [0, 63, 64, 149]
    alone = [(await embedder.embed([texts[row]], urgent=True))[0] for row in chosen]
    np.testing.assert_allclose(together[chosen], alone, atol=1e-5)
    assert (await embedder.embed([])).shape == (0, 384)
    await embedder.close()


async def test_the_largest_texts_fit_a_request(home: Path) -> None:
    embedder = opened(home)
    vectors = await embedder.embed(["🙂" * 1_000_000] * 64)
    np.testing.assert_allclose(vectors, vectors[:1].repeat(64, axis=0), atol=1e-5)
    await embedder.close()


async def test_the_cancel_of_one_caller_leaves_the_start_to_the_others(home: Path) -> None:
    embedder = opened(home)
    impatient = asyncio.create_task(embedder.embed(["first"]))
    patient = asyncio.create_task(embedder.embed(["second"]))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).shape == (1, 384)
    assert impatient.cancelled()
    await embedder.close()


async def test_a_closed_embedder_refuses_what_is_under_way_and_what_comes(home: Path) -> None:
    embedder = opened(home)
    await embedder.embed(["x"])
    under_way = asyncio.create_task(embedder.embed(["word " * 200] * 64))
    while not embedder._connection or not embedder._connection._answers:
        await asyncio.sleep(0)
    await embedder.close()
    for refused in (under_way, embedder.embed(["x"])):
        with pytest.raises(ApiError) as failure:
            await refused
        assert failure.value.code is ErrorCode.SERVICE_UNAVAILABLE


async def test_a_missing_model_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package")
    embedder = opened(home)
    with pytest.raises(ApiError, match="make install") as failure:
        await embedder.embed(["x"])
    assert failure.value.code is ErrorCode.SERVICE_UNAVAILABLE
    assert servers(home) == []
    await embedder.close()


async def test_a_process_that_cannot_start_is_reported_and_not_tried_at_once_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(client, "_REST_AFTER_FAILURE_S", 60.0)
    embedder = opened(home)
    with pytest.raises(ApiError, match="log"):
        await embedder.embed(["x"])
    monkeypatch.undo()
    monkeypatch.setattr(client, "_REST_AFTER_FAILURE_S", 60.0)
    with pytest.raises(ApiError, match="log"):
        await embedder.embed(["x"])
    monkeypatch.setattr(client, "_REST_AFTER_FAILURE_S", 0.0)
    assert (await embedder.embed(["x"])).shape == (1, 384)
    await embedder.close()


async def test_a_home_that_cannot_be_written_is_reported(home: Path) -> None:
    (home / "run").touch()
    embedder = opened(home)
    with pytest.raises(ApiError, match="permissions") as failure:
        await embedder.embed(["x"])
    assert failure.value.code is ErrorCode.SERVICE_UNAVAILABLE
    await embedder.close()


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("nexusrag.providers.embeddings.local.client", ["onnxruntime", "tokenizers"]),
        ("nexusrag.providers.embeddings.local.server", ["pydantic", "sqlalchemy", "fastapi", "nexusrag.settings"]),
        ("nexusrag.providers.embeddings.local.model", ["pydantic", "sqlalchemy", "fastapi", "nexusrag.settings", "torch"]),
    ],
)
def test_neither_end_loads_what_only_the_other_needs(module: str, foreign: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {foreign} if name in sys.modules])"
    root = Path(client.__file__).parents[4]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout == "[]\n"
