"""A document id given by the client: the same content again is the same answer, other content is refused or replaces."""

import asyncio
from typing import Any

import httpx
import pytest

from nexusrag.providers.embeddings.port import Embedder
from nexusrag.security.crypto.facade import BlobStore
from tests.support.api import Api, Person, error_of
from tests.support.behind import count, rows
from tests.support.installation import Servers, serving


@pytest.fixture
async def editor(api: Api) -> Person:
    return await api.person("editor")


@pytest.fixture
async def corpus(editor: Person) -> str:
    return await editor.corpus()


async def send(editor: Person, corpus: str, text: str, **fields: Any) -> httpx.Response:
    return await editor.post("/v1/documents/text", json={"corpus_id": corpus, "text": text, "document_id": "doc", **fields})


async def live_blobs(api: Api, editor: Person) -> list[str]:
    return [row["blob_id"] for row in await rows(api, "select blob_id from documents where tenant_id = $1", editor.tenant)]


async def test_the_same_text_again_is_the_same_answer_and_no_work(api: Api, editor: Person, corpus: str) -> None:
    first = (await send(editor, corpus, "Once.")).json()["data"]
    await editor.settled("doc")
    again = await send(editor, corpus, "Once.")
    assert again.status_code == 202
    assert again.json()["data"] == {**first, "status": "succeeded"}
    assert await count(api, "select count(*) from jobs where tenant_id = $1 and kind = 'document.ingest'", editor.tenant) == 1
    assert await count(api, "select count(*) from document_versions where tenant_id = $1", editor.tenant) == 1


async def test_many_at_once_make_one_document(api: Api, editor: Person, corpus: str) -> None:
    answers = await asyncio.gather(*(send(editor, corpus, "All at once.") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["data"]["job_id"] for answer in answers}) == 1
    assert await count(api, "select count(*) from jobs where tenant_id = $1", editor.tenant) == 1
    mixed = await asyncio.gather(*(send(editor, corpus, f"Text {number}.", document_id="mixed") for number in range(6)))
    assert sorted(answer.status_code for answer in mixed) == [202, 409, 409, 409, 409, 409]


async def test_other_text_under_the_same_id_is_a_conflict(editor: Person, corpus: str) -> None:
    await send(editor, corpus, "The first text about ferries.")
    await editor.settled("doc")
    assert error_of(await send(editor, corpus, "Another text about trains.")) == ("CONFLICT", 409)
    (passage,) = await editor.search(corpus, "ferries and trains")
    assert passage["text"] == "The first text about ferries."


async def test_the_id_cannot_be_moved_to_another_corpus(editor: Person, corpus: str) -> None:
    await send(editor, corpus, "Here.")
    await editor.settled("doc")
    elsewhere = await editor.corpus()
    for overwrite in (False, True):
        assert error_of(await send(editor, elsewhere, "Here.", overwrite=overwrite)) == ("CONFLICT", 409)


@pytest.mark.slow
async def test_overwriting_replaces_text_metadata_and_file(api: Api, editor: Person, corpus: str) -> None:
    await send(editor, corpus, "The ferry leaves from pier four.", metadata_json={"year": 2024}, filename="old.txt")
    await editor.settled("doc")
    (old_blob,) = await live_blobs(api, editor)
    replaced = await send(
        editor, corpus, "The ferry leaves from pier nine.", overwrite=True, metadata_json={"year": 2025}, filename="new.txt"
    )
    assert replaced.status_code == 202
    document = await editor.settled("doc")
    assert (document["version"], document["metadata"], document["filename"]) == (2, {"year": 2025}, "new.txt")
    passages = await editor.search(corpus, "which pier does the ferry leave from?", top_k=10)
    assert [passage["text"] for passage in passages] == ["The ferry leaves from pier nine."]
    assert passages[0]["document_version"] == 2
    for table in ("chunks", "embeddings"):
        assert await count(api, f"select count(*) from {table} where tenant_id = $1", editor.tenant) == 1
    store = api.resources.get(BlobStore)
    async with asyncio.timeout(10):
        while await store.exists(editor.tenant, old_blob):
            await asyncio.sleep(0.05)
    assert await store.exists(editor.tenant, (await live_blobs(api, editor))[0])


@pytest.mark.slow
async def test_a_replacement_that_cannot_be_read_leaves_the_former_text_and_its_file(api: Api, editor: Person, corpus: str) -> None:
    await send(editor, corpus, "The lighthouse is painted red.", filename="red.txt", metadata_json={"hue": "red"})
    before = await editor.settled("doc")
    files = await live_blobs(api, editor)
    broken = await editor.upload(corpus, "broken.json", b'{"text": "unclosed', document_id="doc", overwrite="true")
    assert broken.status_code == 202
    document = await editor.settled("doc")
    assert document["status"] == "failed"
    assert await live_blobs(api, editor) == files
    for name in ("filename", "content_type", "metadata", "size_bytes", "version"):
        assert document[name] == before[name], name
    assert (await editor.post("/v1/documents/doc/reindex", json={"chunk_size_chars": 500})).status_code == 202
    assert (await editor.settled("doc"))["status"] == "succeeded"
    (passage,) = await editor.search(corpus, "what colour is the lighthouse?")
    assert passage["text"] == "The lighthouse is painted red."


@pytest.mark.slow
async def test_overwriting_again_and_again_ends_with_the_last_text(api: Api, editor: Person, corpus: str) -> None:
    last, refused = "", 0
    for number in range(12):
        answer = await send(editor, corpus, f"Edition {number} of the almanac.", overwrite=True)
        if answer.status_code == 202:
            last = f"Edition {number} of the almanac."
        else:
            assert error_of(answer) == ("INGEST_IN_PROGRESS", 409)
            refused += 1
            await editor.settled("doc")
    await editor.settled("doc")
    assert refused < 12
    assert [passage["text"] for passage in await editor.search(corpus, "which edition of the almanac?")] == [last]
    assert await count(api, "select count(*) from document_versions where tenant_id = $1 and state = 'live'", editor.tenant) == 1


async def test_what_has_not_changed_is_not_embedded_again(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(servers.with_env(INGEST_EXECUTION_MODE="inline")) as (app, url):
        api = Api(servers, app, url)
        editor = await api.person("editor")
        corpus = await editor.corpus()
        embedder: Any = app.state.resources.get(Embedder)
        embed, asked = embedder.embed, []

        async def noting(texts: list[str], **options: Any) -> Any:
            asked.extend(texts)
            return await embed(texts, **options)

        monkeypatch.setattr(embedder, "embed", noting)
        parts = [f"# Part {number}\n\nWhat part {number} says, in words of its own." for number in range(5)]
        for changed in (None, 3):
            asked.clear()
            if changed is not None:
                parts[changed] = f"# Part {changed}\n\nSomething else altogether."
            answer = await editor.upload(corpus, "parts.md", "\n\n".join(parts).encode(), document_id="doc", overwrite="true")
            assert answer.status_code == 202, answer.text
            assert (await editor.settled("doc"))["num_chunks"] == 5
            assert len(asked) == (5 if changed is None else 1)
        assert "Something else" in asked[0]
        found = await editor.search(corpus, "What does part 4 say?")
        assert "part 4" in found[0]["text"]
        await api.close()
