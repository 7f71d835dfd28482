"""`nexusrag up` and the commands beside it, as somebody at a terminal has them: real servers, real embeddings, real processes."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.support.api import Person
from tests.support.installation import http
from tests.support.processes import Process, free_port, plain_environment, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A short path: sockets live below it."""
    directory = Path(tempfile.mkdtemp(prefix="nrt-up-"))
    yield directory
    for process in processes_of(directory):
        process.kill()
    shutil.rmtree(directory, ignore_errors=True)


def processes_of(home: Path) -> list[psutil.Process]:
    """Whatever runs for this installation: named on the command line, or working in its directory."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = str(home) in " ".join(process.cmdline()) or process.cwd().startswith(str(home))
            if inside and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


async def command(home: Path, *arguments: str, expect: int = 0, **env: str) -> str:
    """Run one command to its end; what it printed."""
    process = Process([*arguments, "--home", str(home)], plain_environment(**env), home.parent)
    try:
        assert await process.ended(120) == expect, process.output()
        return process.output()
    finally:
        process.close()
        process.log.unlink()


@asynccontextmanager
async def up(home: Path, *arguments: str) -> AsyncIterator[tuple[Process, str]]:
    """`nexusrag up`, once it serves, and its URL."""
    port = free_port()
    process = Process(["up", "--home", str(home), "--port", str(port), *arguments], plain_environment(), home.parent)
    try:
        url = f"http://127.0.0.1:{port}"

        async def serving() -> bool:
            assert process.code is None, process.output()
            return f"Serving on {url}" in process.output()

        await until(serving, 120, 0.1)
        yield process, url
    finally:
        process.close()
        process.log.unlink()


async def no_process_left(home: Path) -> None:
    async def none() -> bool:
        return processes_of(home) == []

    await until(none, 20, 0.1)


async def test_once_prints_a_cited_answer_and_leaves_nothing_running(home: Path) -> None:
    text = await command(home, "up", "--port", str(free_port()), "--once")
    assert "What are the release gates for Agent 2.0?" in text
    answer = text.split("What are the release gates for Agent 2.0?")[1]
    assert "[1]" in answer
    assert "characters" in answer  # of a citation
    assert "“" in answer
    await no_process_left(home)


async def test_a_second_start_keeps_the_data_and_answers_to_the_commands_beside_it(home: Path) -> None:
    async with up(home) as (running, url):
        made = json.loads(await command(home, "keys", "create", "--tenant", "t2", "--role", "editor", "--name", "beside", "--json"))
        assert set(made) == {"key_id", "api_key", "user_id", "tenant_id", "role"}
        assert (made["tenant_id"], made["role"]) == ("t2", "editor")
        async with http(url, made["api_key"]) as client:
            assert (await client.get("/v1/documents")).json()["data"] == []
        assert "FAULT" not in await command(home, "doctor")
        folder = Path(tempfile.mkdtemp(prefix="nrt-in-"))
        try:
            (folder / "tug.md").write_text("# The tug\n\nThe harbour tug is called Éclair and was launched in 1987.\n")
            (folder / "broken.pdf").write_bytes(b"%PDF-1.4 this is no PDF")
            text = await command(home, "ingest", str(folder), "--corpus", "c1", "--url", url, expect=1)
            assert "broken.pdf" in text
        finally:
            shutil.rmtree(folder)
        text = await command(home, "ask", "When was the harbour tug launched?", "--corpus", "c1", "--url", url)
        assert "1987" in text
        assert "tug.md" in text
        listed = await command(home, "keys", "list", "--tenant", "t2", "--json")
        assert made["api_key"] not in listed
        assert json.loads(listed)["items"][0]["key_id"] == made["key_id"]
        await command(home, "keys", "revoke", made["key_id"])
        async with http(url, made["api_key"]) as client:

            async def refused() -> bool:
                return (await client.get("/v1/documents")).status_code == 401

            await until(refused, 2)
        second = Process(["up", "--home", str(home), "--port", str(free_port())], plain_environment(), home.parent)
        try:
            assert await second.ended(60) != 0  # one installation, one `up`
            assert str(running.pid) in second.output()
        finally:
            second.close()
            second.log.unlink()
        running.terminate()
        assert await running.ended(40) == 0, running.output()
    await no_process_left(home)


async def test_a_killed_up_loses_no_acknowledged_upload(home: Path) -> None:
    key = (home / "admin-key").read_text().strip()
    documents = [f"killed-{number}" for number in range(20)]
    async with up(home, "--no-demo") as (running, url), http(url, key) as client:
        for batch in (documents[start : start + 4] for start in range(0, len(documents), 4)):  # as many as the API takes at once
            answers = await asyncio.gather(*(upload(client, document) for document in batch))
            assert {answer.status_code for answer in answers} == {202}
        running.kill()
    # No process of ours outlives it: the servers may, and are taken over.
    async with up(home, "--no-demo") as (running, url), http(url, key) as client:
        person = Person(client, {"tenant_id": "t1", "user_id": "", "key_id": "", "api_key": key})
        settled = await asyncio.gather(*(person.settled(document, 60) for document in documents))
        assert {document["status"] for document in settled} == {"succeeded"}
        found = await person.search("c1", "Which ship is number 13?", top_k=20)
        assert any("number 13 " in passage["text"] for passage in found)
        running.terminate()
        assert await running.ended(40) == 0
    await no_process_left(home)


async def upload(client: httpx.AsyncClient, document: str) -> httpx.Response:
    number = document.removeprefix("killed-")
    text = f"The ship number {number} is called Vessel{number} and lies at pier {number}. " * 20
    return await client.post("/v1/documents/text", json={"corpus_id": "c1", "text": text, "document_id": document})
