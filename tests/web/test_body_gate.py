"""The body gate over HTTP: cheap refusals come before the body, and what is wrong with a body is said with the right status."""

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from tests.support.api import Api, error_of
from tests.support.installation import Servers, serving
from tests.web.wire import send_raw

JSON_LIMIT = 4096
FILE_LIMIT = 8192


@pytest.fixture(scope="module")
async def small(servers: Servers) -> AsyncIterator[Api]:
    """An API that takes small bodies only."""
    async with serving(servers.with_env(MAX_JSON_BODY_BYTES=str(JSON_LIMIT), MAX_UPLOAD_BYTES=str(FILE_LIMIT))) as (app, url):
        api = Api(servers, app, url)
        yield api
        await api.close()


def head(path: str, key: str | None, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *([f"Authorization: Bearer {key}"] if key else []), *more]
    return "\r\n".join([*lines, "", ""]).encode()


ANNOUNCED = ("Content-Type: application/json", "Content-Length: 1000000000")


@pytest.mark.parametrize("path", ["/v1/documents", "/v1/documents/text", "/v1/run", "/v1/corpora"])
async def test_a_stranger_is_refused_before_the_body_is_read(small: Api, path: str) -> None:
    answer = await send_raw(small.base_url, head(path, None, *ANNOUNCED))
    assert (answer.status, answer.code) == (401, "AUTH_UNAUTHORIZED")


async def test_a_reader_is_refused_before_the_body_is_read(small: Api) -> None:
    reader = await small.person("reader")
    answer = await send_raw(small.base_url, head("/v1/documents/text", reader.key, *ANNOUNCED))
    assert (answer.status, answer.code) == (403, "AUTH_FORBIDDEN")
    assert error_of(await reader.post("/v1/documents/text", content=b"[" * 3000)) == ("AUTH_FORBIDDEN", 403)


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/v1/corpora", "application/json"), ("/v1/documents", "multipart/form-data; boundary=b")],
)
async def test_an_announced_size_beyond_the_limit_is_refused_at_once(small: Api, path: str, content_type: str) -> None:
    editor = await small.person("editor")
    answer = await send_raw(small.base_url, head(path, editor.key, f"Content-Type: {content_type}", "Content-Length: 1000000000"))
    assert (answer.status, answer.code, answer.headers["connection"]) == (413, "PAYLOAD_TOO_LARGE", "close")


async def test_a_chunked_body_is_refused_when_it_has_grown_beyond_the_limit(small: Api) -> None:
    editor = await small.person("editor")

    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    start = head("/v1/corpora", editor.key, "Content-Type: application/json", "Transfer-Encoding: chunked")
    # White space is a body of its own length. Four chunks are the limit; a fifth is beyond it, whatever might still follow.
    whole = await send_raw(small.base_url, start + chunk * 4 + b"0\r\n\r\n")
    assert (whole.status, whole.code) == (422, "VALIDATION_ERROR")
    over = await send_raw(small.base_url, start + chunk * 5)
    assert (over.status, over.code, over.headers["connection"]) == (413, "PAYLOAD_TOO_LARGE", "close")


async def test_a_file_may_have_the_limit_and_not_a_byte_more(small: Api) -> None:
    editor = await small.person("editor")
    corpus = await editor.corpus()
    assert (await editor.upload(corpus, "full.txt", b"a" * FILE_LIMIT)).status_code == 202
    assert error_of(await editor.upload(corpus, "over.txt", b"a" * (FILE_LIMIT + 1))) == ("PAYLOAD_TOO_LARGE", 413)
    assert [one["filename"] for one in (await editor.get("/v1/documents")).json()["data"]] == ["full.txt"]


@pytest.mark.parametrize(
    ("path", "content_type", "begun"),
    [
        ("/v1/corpora", "application/json", b"{"),
        (
            "/v1/documents",
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhal',
        ),
    ],
)
async def test_a_body_that_stops_coming_is_not_waited_for(
    small: Api, monkeypatch: pytest.MonkeyPatch, path: str, content_type: str, begun: bytes
) -> None:
    monkeypatch.setattr("nexusrag.web.body._STALL_S", 0.2)
    editor = await small.person("editor")
    answer = await send_raw(small.base_url, head(path, editor.key, f"Content-Type: {content_type}", "Content-Length: 1000") + begun)
    assert (answer.status, answer.code, answer.headers["connection"]) == (400, "BAD_REQUEST", "close")


async def test_an_encoded_body_is_refused_and_never_unpacked(small: Api) -> None:
    editor = await small.person("editor")
    corpus = await editor.corpus()
    packed = gzip.compress(json.dumps({"name": "x"}).encode())
    encoded = {"Content-Encoding": "gzip"}
    refused = ("UNSUPPORTED_MEDIA_TYPE", 415)
    assert error_of(await editor.post("/v1/corpora", content=packed, headers={"Content-Type": "application/json", **encoded})) == refused
    form = {"data": {"corpus_id": corpus}, "files": {"file": ("a.txt", b"text")}}
    assert error_of(await editor.post("/v1/documents", **form, headers=encoded)) == refused


async def test_a_body_of_another_kind_is_refused(small: Api) -> None:
    editor = await small.person("editor")
    refused = ("UNSUPPORTED_MEDIA_TYPE", 415)
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data; boundary=b"):
        assert error_of(await editor.post("/v1/corpora", content=b'{"name":"x"}', headers={"Content-Type": content_type})) == refused
    assert error_of(await editor.post("/v1/documents", json={"corpus_id": "x"})) == refused
    assert (await editor.post("/v1/corpora", content=b'{"name":"x"}', headers={"Content-Type": "application/merge-patch+json"})).is_success


@pytest.mark.parametrize(
    "body", [b'{"name":"x\\u0000"}', b'{"name":"\\ud800"}', b'{"name":"x","name":"y"}', b'{"name":1e999}', b"\xff\xfe", b"[" * 3000]
)
async def test_what_the_parser_refuses_is_a_validation_error(small: Api, body: bytes) -> None:
    editor = await small.person("editor")
    answer = await editor.post("/v1/corpora", content=body, headers={"Content-Type": "application/json"})
    assert error_of(answer) == ("VALIDATION_ERROR", 422)
    assert answer.json()["error"]["details"]["errors"][0]["field"] == "body"


PART = b'--b\r\nContent-Disposition: form-data; name="corpus_id"\r\n\r\nc\r\n'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", PART + b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b"neither head nor tail"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nc\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b; charset=undefined", PART + b"--b--\r\n"),
        ("multipart/form-data; boundary=b", PART * 25 + b"--b--\r\n"),
        ("multipart/form-data; boundary=b", PART[:-3] + b"c" * 70_000 + b"\r\n--b--\r\n"),
    ],
    ids=["no boundary", "no part", "no name", "no charset", "too many parts", "field too large"],
)
async def test_a_broken_form_is_the_clients_fault(api: Api, content_type: str, body: bytes) -> None:
    editor = await api.person("editor")
    assert error_of(await editor.post("/v1/documents", content=body, headers={"Content-Type": content_type})) == ("BAD_REQUEST", 400)


@pytest.mark.parametrize(
    "body",
    [
        PART + PART + b"--b--\r\n",
        PART.replace(b"\r\nc\r\n", b"\r\nc\x00\r\n") + b"--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a\x00.txt"\r\n\r\nx\r\n--b--\r\n',
        PART + b"--b--\r\n",
    ],
    ids=["field given twice", "NUL in a field", "NUL in a file name", "no file"],
)
async def test_a_form_with_impossible_fields_is_a_validation_error(api: Api, body: bytes) -> None:
    editor = await api.person("editor")
    corpus = await editor.corpus(id="c")
    assert corpus == "c"
    answer = await editor.post("/v1/documents", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert error_of(answer) == ("VALIDATION_ERROR", 422)


async def test_a_wrong_field_is_named_and_its_value_is_not_repeated(api: Api) -> None:
    editor = await api.person("editor")
    answer = await editor.post("/v1/corpora", json={"name": "x", "visibility": "hunter2hunter2"})
    assert error_of(answer) == ("VALIDATION_ERROR", 422)
    assert answer.json()["error"]["details"]["errors"][0]["field"] == "body.visibility"
    assert "hunter2" not in answer.text


async def test_a_foreign_tenant_in_the_body_is_refused(api: Api) -> None:
    editor, other = await api.person("editor"), await api.person("editor")
    answer = await editor.post("/v1/corpora", json={"name": "x", "tenant_id": other.tenant})
    assert error_of(answer) == ("TENANT_ID_NOT_ALLOWED", 422)
    assert error_of(await editor.get("/v1/corpora", params={"tenant_id": other.tenant})) == ("NOT_FOUND", 404)
    assert (await other.get("/v1/corpora")).json()["data"] == []


async def test_a_body_that_came_while_the_process_stood_still_is_read(small: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexusrag.web.body._STALL_S", 1)
    person = await small.person()
    body = b'{"name": "Handbook"}'
    request = head("/v1/corpora", person.key, "Content-Type: application/json", f"Content-Length: {len(body)}") + body
    parts = urlsplit(small.base_url)
    assert parts.hostname and parts.port
    standing_still, sent = threading.Event(), threading.Event()

    def send(host: str, port: int) -> bytes:
        with socket.create_connection((host, port)) as connection:
            connection.sendall(request[:-5])
            standing_still.wait()
            connection.sendall(request[-5:])
            sent.set()
            return connection.recv(100)

    sending = asyncio.create_task(asyncio.to_thread(send, parts.hostname, parts.port))
    await asyncio.sleep(0.2)
    standing_still.set()
    time.sleep(1.2)
    assert sent.wait(10)
    assert (await sending).startswith(b"HTTP/1.1 201 ")
