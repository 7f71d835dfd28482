"""Uploads: which formats go in, what is said of what does not, and that nothing a client names reaches the file system."""

import asyncio
import io
import json
from typing import Any

import pytest
from reportlab.pdfgen import canvas  # type: ignore[import-untyped]

from nexusrag.providers.embeddings.port import Embedder
from nexusrag.security.crypto.facade import BlobStore
from tests.support.api import Api, Person, error_of
from tests.support.behind import count, rows
from tests.support.installation import Servers, serving
from tests.support.processes import until

INVALID = ("VALIDATION_ERROR", 422)


@pytest.fixture
async def editor(api: Api) -> Person:
    return await api.person("editor")


@pytest.fixture
async def corpus(editor: Person) -> str:
    return await editor.corpus()


@pytest.mark.slow
async def test_text_markdown_json_and_html_are_read(editor: Person, corpus: str) -> None:
    files = {
        "plain.txt": (b"Ferries to Aurora leave at noon.", "text/plain"),
        "notes.md": (b"# Trains\n\nTrains to *Borealis* leave at nine.", "text/markdown"),
        "data.json": (json.dumps({"text": "Buses to Cassini leave at ten."}).encode(), "application/json"),
        "page.html": (b"<html><script>alert('x')</script><body><p>Trams to Deimos leave at six.</p></body></html>", "text/html"),
    }
    for name, (content, media_type) in files.items():
        answer = await editor.upload(corpus, name, content)
        assert answer.status_code == 202, answer.text
        accepted = answer.json()["data"]
        assert accepted["status_url"] == f"/v1/documents/{accepted['document_id']}"
        document = await editor.settled(accepted["document_id"])
        assert (document["status"], document["content_type"], document["filename"]) == ("succeeded", media_type, name), document
        assert (document["size_bytes"], document["ingest_source"]) == (len(content), "upload_file")
    for place, name in (("Aurora", "plain.txt"), ("Borealis", "notes.md"), ("Cassini", "data.json"), ("Deimos", "page.html")):
        best = (await editor.search(corpus, f"when do they leave to {place}?"))[0]
        assert best["filename"] == name
    assert not any("alert" in passage["text"] for passage in await editor.search(corpus, "alert", top_k=10))


async def test_the_document_tells_how_far_it_is(editor: Person, corpus: str) -> None:
    document_id = await editor.text(corpus, "One sentence only.", filename="one.txt", metadata_json={"team": "a"})
    document = (await editor.get(f"/v1/documents/{document_id}")).json()["data"]
    assert (document["status"], document["num_chunks"], document["version"], document["failure_reason"]) == ("succeeded", 1, 1, None)
    assert (document["metadata"], document["filename"], document["ingest_source"]) == ({"team": "a"}, "one.txt", "raw_text")
    assert document["progress"] == {"bytes": 18, "pages": None, "pages_done": None, "chunks": 1, "chunks_done": 1}
    assert document["queued_at"] <= document["processing_started_at"] <= document["completed_at"]
    assert document["last_reindexed_at"] is None


async def test_a_long_document_tells_how_far_it_is_while_it_is_embedded(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexusrag.knowledge.ingestion.jobs._EMBED_BATCH", 4)
    book = io.BytesIO()
    page = canvas.Canvas(book)
    for number in range(60):
        page.drawString(72, 720, f"Page {number} tells of lantern {number} and of nothing else.")
        page.showPage()
    page.save()
    async with serving(servers.with_env(INGEST_EXECUTION_MODE="inline", CHUNK_SIZE_CHARS="200", CHUNK_OVERLAP_CHARS="0")) as (app, url):
        api = Api(servers, app, url)
        editor = await api.person("editor")
        corpus = await editor.corpus()
        embedder = app.state.resources.get(Embedder)
        embed, batches, go_on = embedder.embed, [0], asyncio.Event()

        async def embedding() -> bool:
            return batches[0] == 2

        async def embedding_slowly(texts: list[str], **options: Any) -> Any:
            batches[0] += 1
            if batches[0] == 2:
                await go_on.wait()
            return await embed(texts, **options)

        monkeypatch.setattr(embedder, "embed", embedding_slowly)
        upload = asyncio.create_task(editor.upload(corpus, "book.pdf", book.getvalue(), document_id="book"))
        await until(embedding)
        document = (await editor.get("/v1/documents/book")).json()["data"]
        go_on.set()
        assert (await upload).status_code == 202
        done = await editor.settled("book")
        half_way = document["progress"]
        assert document["status"] == "processing"
        assert (half_way["pages"], half_way["pages_done"], half_way["chunks_done"]) == (60, 60, 4)
        assert 4 < half_way["chunks"] == done["num_chunks"] == done["progress"]["chunks_done"]
        await api.close()


@pytest.mark.parametrize(
    ("name", "content", "media_type", "expected"),
    [
        ("empty.txt", b"", None, ("INGEST_VALIDATION_ERROR", 422)),
        ("a.pdf", b"This is no PDF.", "application/pdf", ("UNSUPPORTED_MEDIA_TYPE", 415)),
        ("a.txt", b"%PDF-1.7 but named otherwise", None, ("UNSUPPORTED_MEDIA_TYPE", 415)),
        ("a.exe", b"MZ\x90\x00", None, ("UNSUPPORTED_MEDIA_TYPE", 415)),
        ("a.md", b"\x89PNG\r\n\x1a\n....", "text/markdown", ("UNSUPPORTED_MEDIA_TYPE", 415)),
        ("a.zip", b"PK\x03\x04....", "application/zip", ("UNSUPPORTED_MEDIA_TYPE", 415)),
        ("a.docx", b"<html>no document</html>", None, ("UNSUPPORTED_MEDIA_TYPE", 415)),
        ("a", b"\x1f\x8b\x08\x00", "text/plain", ("UNSUPPORTED_MEDIA_TYPE", 415)),
    ],
)
async def test_empty_and_lying_files_are_refused(
    api: Api, editor: Person, corpus: str, name: str, content: bytes, media_type: str | None, expected: tuple[str, int]
) -> None:
    assert error_of(await editor.upload(corpus, name, content, media_type)) == expected
    assert await count(api, "select count(*) from documents where tenant_id = $1", editor.tenant) == 0
    assert await count(api, "select count(*) from jobs where tenant_id = $1", editor.tenant) == 0


@pytest.mark.parametrize("content", [b" \n\t \n", b"<html><body></body></html>", b'{"text": ""}'], ids=["blank", "html", "json"])
async def test_a_file_without_text_fails_with_a_reason(editor: Person, corpus: str, content: bytes) -> None:
    name = {b" ": "a.txt", b"<": "a.html", b"{": "a.json"}[content[:1]]
    answer = await editor.upload(corpus, name, content)
    if answer.status_code == 202:
        document = await editor.settled(answer.json()["data"]["document_id"])
        assert document["status"] == "failed"
        assert document["failure_reason"]
    else:
        assert error_of(answer)[1] == 422


@pytest.mark.parametrize("content", [b'{"text": "unclosed', b'{"no": "text"}', b"[1, 2]"])
async def test_json_of_another_shape_fails_with_a_reason(editor: Person, corpus: str, content: bytes) -> None:
    answer = await editor.upload(corpus, "a.json", content)
    document = await editor.settled(answer.json()["data"]["document_id"])
    assert (document["status"], document["num_chunks"]) == ("failed", None)
    assert "JSON" in document["failure_reason"] or "text" in document["failure_reason"]


BAD_IDS = ["../x", "..", ".hidden", "a/b", "a\\b", "/etc/passwd", "%2e%2e", "a b", "-x", "", "ü", "a" * 129, "a\n", "C:", "~"]


@pytest.mark.parametrize("document_id", BAD_IDS)
async def test_a_document_id_that_is_a_path_is_refused(editor: Person, corpus: str, document_id: str) -> None:
    text = await editor.post("/v1/documents/text", json={"corpus_id": corpus, "text": "x", "document_id": document_id})
    assert error_of(text) == INVALID
    if document_id:  # an empty field of a form is one that was left out
        assert error_of(await editor.upload(corpus, "a.txt", b"x", document_id=document_id)) == INVALID


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("..\\..\\boot.txt", "boot.txt"),
        ("/absolute/name.txt", "name.txt"),
        ("C:\\Users\\me\\report.txt", "report.txt"),
        ("invoice\u202etxt.exe.txt", "invoicetxt.exe.txt"),
        ("\u2066\u200fhidden\u2069.txt", "hidden.txt"),
        ("tab\tand\u0007bell.txt", "tabandbell.txt"),
        ("ünïcödé 日本.txt", "ünïcödé 日本.txt"),
        ("a" * 300 + ".txt", "a" * 255),
    ],
)
async def test_a_file_name_is_for_showing_only(editor: Person, corpus: str, given: str, kept: str) -> None:
    accepted = await editor.post("/v1/documents/text", json={"corpus_id": corpus, "text": "Named.", "filename": given})
    shown = (await editor.get(f"/v1/documents/{accepted.json()['data']['document_id']}")).json()["data"]["filename"]
    assert shown == kept


async def test_an_uploaded_name_is_cleaned_as_well(editor: Person, corpus: str) -> None:
    answer = await editor.upload(corpus, "..\\..\\a/b\u202ec.txt", b"Named by a form.")
    shown = (await editor.get(f"/v1/documents/{answer.json()['data']['document_id']}")).json()["data"]["filename"]
    assert shown == "bc.txt"


@pytest.mark.slow
async def test_what_is_stored_is_encrypted_and_comes_back_whole(api: Api, editor: Person, corpus: str) -> None:
    content = b"Aardvark-canary in the stored file. " * 5000
    document_id = (await editor.upload(corpus, "canary.txt", content)).json()["data"]["document_id"]
    await editor.settled(document_id)
    (row,) = await rows(api, "select blob_id, sha256, size_bytes from documents where tenant_id = $1", editor.tenant)
    store = api.resources.get(BlobStore)
    assert b"".join([piece async for piece in store.read(editor.tenant, row["blob_id"])]) == content
    assert row["size_bytes"] == len(content)
    home = api.servers.home / "blobs"
    assert home.is_dir()
    assert not any(b"Aardvark-canary" in file.read_bytes() for file in home.rglob("*") if file.is_file())
    assert not any(row["blob_id"] in file.name for file in home.rglob("*"))


@pytest.mark.parametrize(
    "metadata",
    ["{", "[]", '"x"', '{"a": {"nested": 1}}', '{"a": null}', '{"a": [[1]]}', '{"labels": {"a": {}}}', '{"a": NaN}', '{"a": 1, "a": 2}',
     '{"a": "\\u0000"}',
     json.dumps({"k" * 65: 1}), json.dumps({"k": "v" * 1001}), json.dumps({str(number): 1 for number in range(51)})],
)  # fmt: skip
async def test_metadata_that_is_not_flat_and_small_is_refused(editor: Person, corpus: str, metadata: str) -> None:
    assert error_of(await editor.upload(corpus, "a.txt", b"x", metadata_json=metadata)) == INVALID


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "   \n"}, {"text": ""}, {"text": "x", "chunk_size_chars": 0}, {"text": "x", "chunk_size_chars": 20_001},
        {"text": "x", "chunk_overlap_chars": -1}, {"text": "x", "chunk_size_chars": 200, "chunk_overlap_chars": 200},
        {"text": "x", "surprise": 1}, {"text": 7}, {"text": "x", "overwrite": "perhaps"}, {"text": "x", "chunk_size_chars": True},
        {"text": "x", "chunk_size_chars": "500"}, {"text": "x", "chunk_overlap_chars": False},
    ],
)  # fmt: skip
async def test_faulty_text_is_refused_and_leaves_nothing(api: Api, editor: Person, corpus: str, fields: dict[str, Any]) -> None:
    code, status = error_of(await editor.post("/v1/documents/text", json={"corpus_id": corpus, **fields}))
    assert (status, code in ("VALIDATION_ERROR", "INGEST_VALIDATION_ERROR")) == (422, True)
    assert await count(api, "select count(*) from documents where tenant_id = $1", editor.tenant) == 0


async def test_the_listing_pages_newest_first(editor: Person, corpus: str) -> None:
    made = [await editor.text(corpus, f"Number {number}.", wait=False) for number in range(7)]
    seen, cursor = [], None
    while True:
        page = (await editor.get("/v1/documents", params={"limit": 3, **({"cursor": cursor} if cursor else {})})).json()
        seen += [row["id"] for row in page["data"]]
        cursor = page["meta"]["page"]["next_cursor"]
        assert page["meta"]["page"]["has_more"] is (cursor is not None)
        if cursor is None:
            break
    assert seen == made[::-1]
    for limit in ("0", "1001", "-1", "abc", "1.5"):
        assert error_of(await editor.get("/v1/documents", params={"limit": limit})) == INVALID
