"""Reindexing swaps whole indexes and keeps the old one until then; deleting leaves nothing behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from nexusrag.security.crypto.facade import BlobStore
from tests.support.api import Api, Person, error_of
from tests.support.behind import Held, count, rows
from tests.support.installation import Servers, serving, working

BUSY = ("INGEST_IN_PROGRESS", 409)
LONG = "\n\n".join(f"Paragraph {number} speaks of lanterns, harbours and the long way home in the evening rain." for number in range(40))


@pytest.fixture(scope="module")
async def idle(servers: Servers) -> AsyncIterator[Api]:
    """An API whose queue nobody works on, unless a test starts a worker."""
    async with serving(servers.with_env(INGEST_QUEUE_NAME="idle")) as (app, url):
        api = Api(servers, app, url)
        yield api
        await api.close()


async def long_document(api: Api) -> tuple[Person, str]:
    editor = await api.person("editor")
    corpus = await editor.corpus()
    await editor.text(corpus, LONG, document_id="long")
    return editor, corpus


async def test_other_chunk_sizes_make_another_version_of_the_same_text(api: Api) -> None:
    editor, corpus = await long_document(api)
    before = (await editor.get("/v1/documents/long")).json()["data"]
    answer = await editor.post("/v1/documents/long/reindex", json={"chunk_size_chars": 300, "chunk_overlap_chars": 0})
    accepted = answer.json()["data"]
    assert (answer.status_code, accepted["status"], accepted["document_id"]) == (202, "queued", "long")
    after = await editor.settled("long")
    assert (before["version"], after["version"], after["last_job_id"]) == (1, 2, accepted["job_id"])
    assert after["num_chunks"] > before["num_chunks"]
    assert after["last_reindexed_at"] >= after["queued_at"]
    assert after["created_at"] == before["created_at"]
    passages = await editor.search(corpus, "lanterns and harbours", top_k=50)
    assert {passage["document_version"] for passage in passages} == {2}
    assert all(len(passage["text"]) <= 400 for passage in passages)
    assert await count(api, "select count(*) from chunks where tenant_id = $1", editor.tenant) == after["num_chunks"]
    assert await count(api, "select count(distinct version_id) from postings where tenant_id = $1", editor.tenant) == 1


@pytest.mark.slow
async def test_a_search_never_meets_two_versions_at_once(api: Api) -> None:
    editor, corpus = await long_document(api)
    mixes, answers = [], 0

    async def look(until: "asyncio.Task[None]") -> None:
        nonlocal answers
        while not until.done():
            passages = await editor.search(corpus, "lanterns and harbours", top_k=50)
            versions = {passage["document_version"] for passage in passages}
            answers += 1
            if len(versions) != 1:
                mixes.append(versions)

    async def swap() -> None:
        for size in (200, 500, 900):
            assert (await editor.post("/v1/documents/long/reindex", json={"chunk_size_chars": size})).status_code == 202
            await editor.settled("long")

    swapping = asyncio.create_task(swap())
    await look(swapping)
    await swapping
    assert (mixes, answers > 3) == ([], True)


@pytest.mark.parametrize(
    "body",
    [{"chunk_size_chars": 0}, {"chunk_size_chars": 100, "chunk_overlap_chars": 100}, {"chunk_overlap_chars": 4999},
     {"chunk_size_chars": True}, {"top_k": 1}, [], 7],
)  # fmt: skip
async def test_parameters_that_do_not_fit_are_refused(api: Api, body: object) -> None:
    editor = await api.person("editor")
    await editor.text(await editor.corpus(), "Short.", document_id="short")
    assert error_of(await editor.post("/v1/documents/short/reindex", json=body))[1] == 422
    assert (await editor.get("/v1/documents/short")).json()["data"]["status"] == "succeeded"


async def test_a_document_in_flight_is_neither_replaced_nor_reindexed_nor_deleted(idle: Api) -> None:
    editor = await idle.person("editor")
    corpus = await editor.corpus()
    await editor.text(corpus, "Queued.", document_id="queued", wait=False)
    assert (await editor.get("/v1/documents/queued")).json()["data"]["status"] == "queued"
    assert error_of(await editor.delete("/v1/documents/queued")) == BUSY
    assert error_of(await editor.post("/v1/documents/queued/reindex")) == BUSY
    body = {"corpus_id": corpus, "text": "Other.", "document_id": "queued", "overwrite": True}
    assert error_of(await editor.post("/v1/documents/text", json=body)) == BUSY
    action = await editor.post("/v1/ui/actions/reindex-document", json={"document_id": "queued"})
    assert error_of(action) == ("ACTION_CONFLICT", 409)
    assert await count(idle, "select count(*) from jobs where tenant_id = $1", editor.tenant) == 1


@pytest.mark.slow
async def test_a_reindexing_that_fails_leaves_the_old_index_live(idle: Api, api: Api) -> None:
    editor = await idle.person("editor")
    corpus = await editor.corpus()
    await editor.text(corpus, LONG, document_id="long", wait=False)
    async with working(idle.servers.with_env(INGEST_QUEUE_NAME="idle")):
        before = await editor.settled("long")
    assert (await editor.post("/v1/documents/long/reindex", json={"chunk_size_chars": 200})).status_code == 202
    (row,) = await rows(idle, "select blob_id from documents where tenant_id = $1", editor.tenant)
    await idle.resources.get(BlobStore).delete(editor.tenant, row["blob_id"])
    async with working(idle.servers.with_env(INGEST_QUEUE_NAME="idle")):
        after = await editor.settled("long")
    assert after["status"] == "failed"
    assert "upload it again" in after["failure_reason"]
    assert after["version"] == before["version"]
    assert len(await editor.search(corpus, "lanterns", top_k=50)) == before["num_chunks"]
    assert error_of(await editor.post("/v1/documents/long/reindex")) == ("INGEST_SOURCE_MISSING", 409)


@pytest.mark.slow
async def test_deleting_leaves_nothing_behind(api: Api) -> None:
    editor, corpus = await long_document(api)
    await editor.text(corpus, "A neighbour about lanterns.", document_id="neighbour")
    (row,) = await rows(api, "select blob_id from documents where tenant_id = $1 and id = 'long'", editor.tenant)
    answer = await editor.delete("/v1/documents/long")
    assert (answer.status_code, answer.content) == (204, b"")
    for table in ("documents", "document_versions", "document_permissions", "chunks", "embeddings"):
        assert await count(api, f"select count(*) from {table} where tenant_id = $1", editor.tenant) == 1, table
    assert await count(api, "select count(distinct version_id) from postings where tenant_id = $1", editor.tenant) == 1
    assert [passage["document_id"] for passage in await editor.search(corpus, "lanterns")] == ["neighbour"]
    assert error_of(await editor.get("/v1/documents/long")) == ("NOT_FOUND", 404)
    assert error_of(await editor.delete("/v1/documents/long")) == ("NOT_FOUND", 404)
    store = api.resources.get(BlobStore)
    async with asyncio.timeout(10):
        while await store.exists(editor.tenant, row["blob_id"]):
            await asyncio.sleep(0.05)
    assert (await editor.text(corpus, "The id is free again.", document_id="long")) == "long"


async def test_deleting_at_once_happens_once(api: Api) -> None:
    editor = await api.person("editor")
    await editor.text(await editor.corpus(), "Soon gone.", document_id="gone")
    answers = await asyncio.gather(*(editor.delete("/v1/documents/gone") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404, 404]
    assert await count(api, "select count(*) from jobs where tenant_id = $1 and kind = 'blob.remove'", editor.tenant) == 1


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/v1/documents/long"), ("POST", "/v1/documents/long/reindex")], ids=["delete", "reindex"]
)
async def test_whoever_waited_for_a_document_that_is_in_flight_by_then_is_refused(idle: Api, method: str, path: str) -> None:
    editor = await idle.person("editor")
    await editor.text(await editor.corpus(), LONG, document_id="long", wait=False)
    await rows(idle, "update documents set status = 'succeeded' where tenant_id = $1", editor.tenant)
    async with Held(idle, editor.tenant, "update documents set status = 'queued' where tenant_id = '{}'", commit=True) as held:
        asking = asyncio.create_task(editor.client.request(method, path))
        await held.waiting()
    assert error_of(await asking) == BUSY
    assert await count(idle, "select count(*) from jobs where tenant_id = $1", editor.tenant) == 1


async def test_a_document_that_somebody_holds_for_too_long_is_said_to_be_busy(servers: Servers) -> None:
    """As a very long version does while it is swapped in."""
    async with serving(servers.with_env(INGEST_EXECUTION_MODE="inline", API_DB_STATEMENT_TIMEOUT_MS="300")) as (app, url):
        api = Api(servers, app, url)
        editor, _ = await long_document(api)
        async with Held(api, editor.tenant, "select 1 from documents where tenant_id = '{}' for update"):
            answer = await editor.delete("/v1/documents/long")
        assert error_of(answer) == ("SERVICE_UNAVAILABLE", 503)
        assert answer.headers["Retry-After"] == "1"
        assert (await editor.delete("/v1/documents/long")).status_code == 204
        await api.close()
