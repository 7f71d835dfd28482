"""Storing a file: no connection is held meanwhile, and whatever becomes of the process, no file is left that no row names."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from nexusrag.kernel.ids import new_id
from nexusrag.providers.storage.directory import DirectoryStorage
from nexusrag.security.crypto.facade import BlobStore
from nexusrag.settings import Settings
from tests.support.api import Api, Person, error_of
from tests.support.behind import CORPUS, Held, audited, count, rows
from tests.support.installation import Servers, serving, working
from tests.support.processes import api_process, until

DOCUMENTS = "select count(*) from documents where tenant_id = $1"
SPEECHES = "select count(*) from audio_files where tenant_id = $1"
UNSETTLED = "select count(*) from jobs where tenant_id = $1 and kind = 'blob.abandoned'"


class SlowStorage(DirectoryStorage):
    """Stores nothing before it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.waiting = 0
        self.go_on = asyncio.Event()

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        self.waiting += 1
        await self.go_on.wait()
        return await super().put(key, chunks)

    async def reached(self, by: int) -> None:
        async def so_many() -> bool:
            return self.waiting >= by

        await until(so_many)


@asynccontextmanager
async def slow(servers: Servers, tmp_path: Path, **env: str) -> AsyncIterator[tuple[Api, SlowStorage]]:
    """An API before a slow store, with a queue that nobody works on."""
    settings = servers.with_env(INGEST_QUEUE_NAME=new_id("queue"), BLOB_DIRECTORY=str(tmp_path), **env)
    async with serving(settings) as (app, url):
        api = Api(servers, app, url)
        storage = SlowStorage(tmp_path)
        api.resources.get(BlobStore)._storage = storage
        try:
            yield api, storage
        finally:
            storage.go_on.set()
            await api.close()


async def test_with_a_pool_of_one_others_are_served_while_files_are_stored(servers: Servers, tmp_path: Path) -> None:
    async with slow(servers, tmp_path, API_DB_POOL_SIZE="1", API_DB_MAX_OVERFLOW="0") as (api, storage):
        editor = await api.person("editor")
        corpus = await editor.corpus()
        uploads = [asyncio.create_task(editor.upload(corpus, "a.txt", b"Slow.", document_id=f"d{number}")) for number in range(8)]
        await storage.reached(8)
        # Whoever held the one connection would keep these waiting until the pool gives up.
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*(editor.get("/v1/documents") for _ in range(8)))
        assert [(answer.status_code, answer.json()["data"]) for answer in answers] == [(200, [])] * 8
        storage.go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*uploads)} == {202}
        assert (await count(api, DOCUMENTS, editor.tenant), await count(api, UNSETTLED, editor.tenant)) == (8, 0)


async def test_of_two_requests_with_one_key_that_store_at_once_one_has_an_effect(servers: Servers, tmp_path: Path) -> None:
    async with slow(servers, tmp_path) as (api, storage):
        editor, key = await api.person("editor"), {"Idempotency-Key": new_id("idem")}
        body = {"corpus_id": await editor.corpus(), "text": "Twice at once."}
        both = []
        for number in (1, 2):  # the second once the first stores, and holds the key no more
            both.append(asyncio.create_task(editor.post("/v1/documents/text", json=body, headers=key)))
            await storage.reached(number)
        storage.go_on.set()
        done, refused = sorted(await asyncio.gather(*both), key=lambda answer: answer.status_code)
        assert done.status_code == 202
        assert error_of(refused) == ("IDEMPOTENCY_IN_PROGRESS", 409)
        again = await editor.post("/v1/documents/text", json=body, headers=key)
        assert (again.content, again.headers["Idempotency-Replayed"]) == (done.content, "true")
        assert await count(api, DOCUMENTS, editor.tenant) == 1
        assert len(await audited(api, editor.tenant, "documents.ingest.enqueued")) == 1
        assert (len(files(tmp_path)), await count(api, UNSETTLED, editor.tenant)) == (1, 0)


async def test_what_will_be_refused_is_not_stored(servers: Servers, tmp_path: Path) -> None:
    async with slow(servers, tmp_path) as (api, storage):
        storage.go_on.set()
        editor = await api.person("editor")
        corpus, elsewhere = await editor.corpus(), await editor.corpus()
        await editor.text(corpus, "Queued.", document_id="d", wait=False)
        for answer in (
            await editor.upload(corpus, "a.txt", b"Other.", document_id="d", overwrite="true"),
            await editor.upload(elsewhere, "a.txt", b"Other.", document_id="d"),
            await editor.upload("nope", "a.txt", b"Other."),
        ):
            assert answer.is_client_error
        assert (storage.waiting, await count(api, UNSETTLED, editor.tenant)) == (1, 0)


async def test_a_file_that_is_refused_or_unchanged_after_all_is_taken_back(servers: Servers, tmp_path: Path) -> None:
    async with slow(servers, tmp_path) as (api, storage):
        storage.go_on.set()
        editor = await api.person("editor")
        corpus = await editor.corpus()
        await editor.text(corpus, "As it was.", document_id="d", wait=False)
        before = files(tmp_path)
        assert error_of(await editor.upload(corpus, "a.txt", b"Other.", document_id="d")) == ("CONFLICT", 409)
        assert (await editor.upload(corpus, "a.txt", b"As it was.", document_id="d")).status_code == 202
        assert (files(tmp_path), await count(api, UNSETTLED, editor.tenant)) == (before, 0)


def files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_file()}


async def an_hour_passes(api: Api, tenant: str, settings: Settings) -> None:
    """What was reserved and not kept is due, and a worker does it."""
    await rows(api, "update jobs set run_at = now() where tenant_id = $1 and kind = 'blob.abandoned'", tenant)
    async with working(settings):

        async def done() -> bool:
            return not await count(api, "select count(*) from jobs where tenant_id = $1 and state in ('queued', 'running')", tenant)

        await until(done)


@pytest.mark.slow
async def test_an_upload_that_its_removal_overtakes_is_refused(servers: Servers, tmp_path: Path) -> None:
    async with slow(servers, tmp_path) as (api, storage):
        editor = await api.person("editor")
        upload = asyncio.create_task(editor.upload(await editor.corpus(), "a.txt", b"Far too slow."))
        await storage.reached(1)
        await an_hour_passes(api, editor.tenant, api.resources.get(Settings))
        storage.go_on.set()
        assert error_of(await upload) == ("SERVICE_UNAVAILABLE", 503)
        assert (await count(api, DOCUMENTS, editor.tenant), files(tmp_path)) == (0, set())


AGAIN, INSTEAD = {"document_id": "d"}, {"document_id": "d", "overwrite": "true"}
SPOKEN = "lock table audio_files in exclusive mode"


async def upload(person: Person, corpus: str, **fields: str) -> None:
    await person.upload(corpus, "a.txt", b"The keeper is Ada Moreau.", **fields)


async def spoken_answer(person: Person, corpus: str) -> None:
    await person.run(corpus, "Who is the keeper?", audio=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("request_", "lock"),
    [(upload, CORPUS), (partial(upload, **AGAIN), CORPUS), (partial(upload, **INSTEAD), CORPUS), (spoken_answer, SPOKEN)],
    ids=["new", "unchanged", "replacing", "spoken"],
)
async def test_a_process_killed_between_file_and_row_leaves_no_file(
    servers: Servers, tmp_path: Path, request_: Callable[[Person, str], Awaitable[None]], lock: str
) -> None:
    env = {"INGEST_QUEUE_NAME": new_id("queue"), "BLOB_DIRECTORY": str(tmp_path)}
    async with api_process(servers, INGEST_EXECUTION_MODE="inline", **env) as (process, url):
        api = Api(servers, FastAPI(), url)
        person = await api.person()
        corpus = await person.corpus()
        await person.text(corpus, "The keeper is Ada Moreau.", document_id="d")
        before = files(tmp_path)
        async with Held(api, person.tenant, lock) as held:
            doomed = asyncio.create_task(request_(person, corpus))
            await held.waiting()
            assert len(files(tmp_path) - before) == 1
            process.kill()
        assert isinstance((await asyncio.gather(doomed, return_exceptions=True))[0], httpx.TransportError)
    await an_hour_passes(api, person.tenant, servers.with_env(**env))
    assert files(tmp_path) == before
    assert (await count(api, DOCUMENTS, person.tenant), await count(api, SPEECHES, person.tenant)) == (1, 0)
    await api.close()
