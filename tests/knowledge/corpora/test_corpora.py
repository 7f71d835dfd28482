"""Corpora over HTTP: created, listed, changed, and deleted with all that they held."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from nexusrag.security.crypto.facade import BlobStore
from tests.support.api import Api, Person, error_of
from tests.support.behind import Held, count, rows
from tests.support.installation import Servers, serving

LOCAL = {"retrieval": {"provider": "local_pgvector", "top_k_default": 5}}
BEDROCK = {"retrieval": {"provider": "aws_bedrock_kb", "knowledge_base_id": "KB1", "region": "eu-central-1", "top_k_default": 5}}
MISSING = ("NOT_FOUND", 404)


@pytest.fixture(scope="module")
async def idle(servers: Servers) -> AsyncIterator[Api]:
    """An API whose queue nobody works on."""
    async with serving(servers.with_env(INGEST_QUEUE_NAME="idle")) as (app, url):
        api = Api(servers, app, url)
        yield api
        await api.close()


async def test_a_new_corpus_is_restricted_local_and_listed_first(api: Api) -> None:
    editor = await api.person("editor")
    older = await editor.corpus()
    made = (await editor.post("/v1/corpora", json={"name": "Newer"})).json()["data"]
    assert made["id"].startswith("corpus_")
    assert (made["visibility"], made["provider_config_json"], made["tenant_id"]) == ("restricted", LOCAL, editor.tenant)
    assert made["created_at"].endswith("Z")
    assert (await editor.get(f"/v1/corpora/{made['id']}")).json()["data"] == made
    assert [one["id"] for one in (await editor.get("/v1/corpora")).json()["data"]] == [made["id"], older]
    reader = await api.person("reader", editor.tenant)
    assert (await reader.get(f"/v1/corpora/{made['id']}")).json()["data"] == made


async def test_a_client_may_choose_the_id_once(api: Api) -> None:
    editor = await api.person("editor")
    assert await editor.corpus(id="Handbook-1.0_a") == "Handbook-1.0_a"
    assert error_of(await editor.post("/v1/corpora", json={"name": "x", "id": "Handbook-1.0_a"})) == ("CONFLICT", 409)
    answers = await asyncio.gather(*(editor.post("/v1/corpora", json={"name": "x", "id": "race"}) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409, 409]


@pytest.mark.parametrize("bad", ["", "../x", "-a", ".a", "a/b", "a b", "ä", "a" * 129, "a\n", "a\u0000"])
async def test_an_id_that_is_no_id_is_refused(api: Api, bad: str) -> None:
    assert error_of(await (await api.person("editor")).post("/v1/corpora", json={"name": "x", "id": bad})) == ("VALIDATION_ERROR", 422)


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": "n" * 201}, {"name": None}, {"name": 7}, {"name": "x", "visibility": "public"},
     {"name": "x", "owner": "me"},
     {"name": "x", "provider_config_json": []}],
)  # fmt: skip
async def test_a_faulty_corpus_is_not_made(api: Api, body: dict[str, object]) -> None:
    editor = await api.person("editor")
    assert error_of(await editor.post("/v1/corpora", json=body)) == ("VALIDATION_ERROR", 422)
    assert (await editor.get("/v1/corpora")).json()["data"] == []


async def test_a_patch_changes_what_it_names_and_nothing_else(api: Api) -> None:
    editor = await api.person("editor")
    corpus = await editor.corpus()
    before = (await editor.get(f"/v1/corpora/{corpus}")).json()["data"]
    renamed = (await editor.patch(f"/v1/corpora/{corpus}", json={"name": "Renamed"})).json()["data"]
    assert {**renamed, "name": before["name"], "updated_at": before["updated_at"]} == before
    assert renamed["updated_at"] > before["updated_at"]
    assert (await editor.patch(f"/v1/corpora/{corpus}", json={})).json()["data"] == renamed
    moved = (await editor.patch(f"/v1/corpora/{corpus}", json={"provider_config_json": BEDROCK})).json()["data"]
    assert (moved["name"], moved["provider_config_json"]) == ("Renamed", BEDROCK)


async def test_a_malformed_configuration_changes_nothing(api: Api) -> None:
    editor = await api.person("editor")
    corpus = await editor.corpus()
    body = {"name": "Half", "provider_config_json": {"retrieval": {"provider": "aws_bedrock_kb", "region": "r"}}}
    for answer in (await editor.patch(f"/v1/corpora/{corpus}", json=body), await editor.post("/v1/corpora", json=body)):
        assert error_of(answer) == ("RETRIEVAL_CONFIG_INVALID", 422)
        assert answer.json()["error"]["details"] == {"field": "provider_config_json.retrieval.knowledge_base_id"}
    assert [one["name"] for one in (await editor.get("/v1/corpora")).json()["data"]] == ["Corpus"]


async def test_who_may_read_a_corpus_is_an_admins_decision(api: Api) -> None:
    editor = await api.person("editor")
    corpus = await editor.corpus()
    assert error_of(await editor.patch(f"/v1/corpora/{corpus}", json={"visibility": "tenant"})) == ("AUTH_FORBIDDEN", 403)
    assert (await editor.patch(f"/v1/corpora/{corpus}", json={"visibility": "restricted", "name": "Same"})).status_code == 200
    admin = await api.person("admin", editor.tenant)
    assert (await admin.patch(f"/v1/corpora/{corpus}", json={"visibility": "tenant"})).json()["data"]["visibility"] == "tenant"


async def test_a_provider_that_is_not_called_yet_says_so(api: Api) -> None:
    editor = await api.person("editor")
    corpus = await editor.corpus(provider_config_json=BEDROCK)
    answer = await editor.post(f"/v1/corpora/{corpus}/search", json={"query": "x"})
    assert error_of(answer) == ("INTEGRATION_UNAVAILABLE", 503)
    assert answer.json()["error"]["details"] == {"provider": "aws_bedrock_kb"}


async def test_an_unknown_corpus_is_not_found(api: Api) -> None:
    admin = await api.person()
    for answer in (
        await admin.get("/v1/corpora/nope"),
        await admin.patch("/v1/corpora/nope", json={"name": "x"}),
        await admin.delete("/v1/corpora/nope"),
        await admin.post("/v1/corpora/nope/search", json={"query": "x"}),
        await admin.post("/v1/documents/text", json={"corpus_id": "nope", "text": "x"}),
        await admin.upload("nope", "a.txt", b"x"),
        await admin.post("/v1/run", json={"session_id": "s", "corpus_id": "nope", "message": "x"}),
    ):
        assert error_of(answer) == MISSING


async def in_flight(idle: Api) -> tuple[Person, str]:
    admin = await idle.person()
    corpus = await admin.corpus()
    await admin.text(corpus, "Waiting.", wait=False)
    return admin, corpus


async def test_a_corpus_with_documents_in_flight_stays(idle: Api) -> None:
    admin, corpus = await in_flight(idle)
    assert error_of(await admin.delete(f"/v1/corpora/{corpus}")) == ("CONFLICT", 409)
    assert (await admin.get(f"/v1/corpora/{corpus}")).status_code == 200


async def test_a_deleted_corpus_is_hidden_at_once_and_once(idle: Api) -> None:
    admin = await idle.person()
    corpus = await admin.corpus(id="gone")
    answers = await asyncio.gather(*(admin.delete(f"/v1/corpora/{corpus}") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [202, 404, 404, 404, 404]
    assert await count(idle, "select count(*) from jobs where tenant_id = $1 and kind = 'corpus.remove'", admin.tenant) == 1
    assert (await admin.get("/v1/corpora")).json()["data"] == []
    for answer in (
        await admin.get("/v1/corpora/gone"),
        await admin.delete("/v1/corpora/gone"),
        await admin.post("/v1/documents/text", json={"corpus_id": "gone", "text": "x"}),
        await admin.post("/v1/corpora/gone/search", json={"query": "x"}),
    ):
        assert error_of(answer) == MISSING
    assert error_of(await admin.post("/v1/corpora", json={"name": "x", "id": "gone"})) == ("CONFLICT", 409)


async def test_a_change_to_a_corpus_that_goes_meanwhile_finds_nothing(idle: Api) -> None:
    admin = await idle.person()
    corpus = await admin.corpus()
    async with Held(idle, admin.tenant, "delete from corpora where tenant_id = '{}'", commit=True) as held:
        changing = asyncio.create_task(admin.patch(f"/v1/corpora/{corpus}", json={"name": "Too late"}))
        await held.waiting()
    assert error_of(await changing) == MISSING


@pytest.mark.slow
async def test_a_deleted_corpus_takes_all_that_it_held_with_it(api: Api) -> None:
    admin = await api.person()
    doomed, kept = await admin.corpus(id="doomed"), await admin.corpus(id="kept")
    for number in range(3):
        await admin.text(doomed, f"Document number {number} of the doomed.", document_id=f"doomed-{number}")
    await admin.text(kept, "This one stays.", document_id="stays")
    blobs = [
        row["blob_id"]
        for row in await rows(api, "select blob_id from documents where tenant_id = $1 and corpus_id = 'doomed'", admin.tenant)
    ]
    answer = (await admin.delete(f"/v1/corpora/{doomed}")).json()["data"]
    assert (answer["corpus_id"], answer["status"]) == ("doomed", "deleting")
    async with asyncio.timeout(20):
        while await count(api, "select count(*) from corpora where tenant_id = $1 and id = 'doomed'", admin.tenant):
            await asyncio.sleep(0.05)
    for table, expected in {
        "documents": 1, "document_versions": 1, "document_permissions": 1, "chunks": 1, "embeddings": 1, "corpora": 1,
    }.items():  # fmt: skip
        assert await count(api, f"select count(*) from {table} where tenant_id = $1", admin.tenant) == expected, table
    assert await count(api, "select count(distinct version_id) from postings where tenant_id = $1", admin.tenant) == 1
    store = api.resources.get(BlobStore)
    assert [await store.exists(admin.tenant, blob) for blob in blobs] == [False] * 3
    assert [passage["document_id"] for passage in await admin.search(kept, "what stays?")] == ["stays"]
    assert await admin.corpus(id="doomed") == "doomed", "the id is free again"
