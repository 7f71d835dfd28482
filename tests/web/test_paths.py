"""Paths, methods and headers at the edge: one spelling per route, no redirects, one request id throughout."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from tests.support.api import Api, error_of
from tests.support.installation import Servers, serving
from tests.web.wire import send_raw

CHUNKED = b"GET /v1/health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1", "/v1/", "/v1/nope", "/v1/corpora/", "/v1/documents/x/", "/v1//corpora", "//v1/corpora", "/V1/corpora", "/v1/Corpora",
        "/v1/documents%2fx", "/v1/documents/a%2fb", "/v1/documents/a/b", "/v1/admin%2fx", "/v1/%2e%2e/corpora", "/v1/corpora%00",
        "/v2/corpora", "/openapi.json", "/docs", "/redoc", "/v1/audio/x", "/v1/run/x",
    ],
)  # fmt: skip
async def test_an_unknown_path_is_not_found_and_never_redirected(api: Api, path: str) -> None:
    person = await api.person()
    raw = await send_raw(api.base_url, f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer {person.key}\r\n\r\n".encode())
    assert (raw.status, raw.code) == (404, "NOT_FOUND")
    assert "location" not in raw.headers
    assert json.loads(raw.body)["meta"] == {"request_id": raw.headers["x-request-id"], "api_version": "v1"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/corpora", "GET, POST"),
        ("HEAD", "/v1/corpora", "GET, POST"),
        ("OPTIONS", "/v1/corpora/x", "DELETE, GET, PATCH"),
        ("TRACE", "/v1/documents/x", "DELETE, GET"),
        ("GET", "/v1/run", "POST"),
        ("POST", "/v1/health", "GET"),
        ("DELETE", "/v1/ui/documents", "GET"),
    ],
)
async def test_a_wrong_method_is_told_which_ones_there_are(api: Api, method: str, path: str, allowed: str) -> None:
    answer = await (await api.person()).client.request(method, path, headers={"X-HTTP-Method-Override": "GET"})
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    if method != "HEAD":
        assert error_of(answer) == ("METHOD_NOT_ALLOWED", 405)


async def test_a_wrong_method_on_an_alias_is_refused_as_an_alias_does(api: Api) -> None:
    answer = await (await api.person()).client.request("PUT", "/documents/x")
    assert (answer.status_code, answer.headers["Allow"], answer.headers["Deprecation"]) == (405, "DELETE, GET", "true")
    assert answer.json() == {"detail": {"code": "METHOD_NOT_ALLOWED", "message": "Use DELETE, GET here."}}


@pytest.mark.parametrize("spelling", ["/v1/documents/{}", "/v1/documents%2f{}", "/v1/documents%2F{}", "/v1/d%6fcuments/{}"])
async def test_another_spelling_of_a_path_meets_the_same_decision(api: Api, spelling: str) -> None:
    editor = await api.person("editor")
    colleague, stranger = await api.person("admin", editor.tenant), await api.person()
    path = spelling.format(await editor.text(await editor.corpus(), "One document, whatever its path is spelt like."))
    for key, method, expected in (
        (None, "GET", 401), (None, "DELETE", 401), (stranger.key, "GET", 404), (stranger.key, "DELETE", 404),
        (colleague.key, "DELETE", 403), (editor.key, "PATCH", 405), (editor.key, "HEAD", 405), (editor.key, "GET", 200),
    ):  # fmt: skip
        credential = f"Authorization: Bearer {key}\r\n" if key else ""
        raw = await send_raw(api.base_url, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{credential}\r\n".encode(), body=method != "HEAD")
        assert raw.status == expected, (method, key)


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
async def test_the_method_is_that_of_the_request_line(api: Api, header: str) -> None:
    editor = await api.person("editor")
    reader = await api.person("reader", editor.tenant)
    document = await editor.text(await editor.corpus("tenant"), "Not to be deleted by a header.")
    path = f"/v1/documents/{document}"
    assert (await editor.get(path, headers={header: "DELETE"}, params={"_method": "DELETE"})).status_code == 200
    assert (await editor.post(path, headers={header: "DELETE"}, data={"_method": "DELETE"})).status_code == 405
    assert error_of(await reader.delete(path, headers={header: "GET"})) == ("AUTH_FORBIDDEN", 403)
    assert (await editor.get(path)).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/documents/%00", "/v1/corpora/x%00y", "/v1/runs/%00", "/v1/runs/%00/events", "/v1/audio/%00.mp3", "/v1/documents?corpus_id=%00",
        "/v1/ui/documents?q=a%00b", "/v1/ui/documents?cursor=%00", "/documents/%00",
    ],
)  # fmt: skip
async def test_a_nul_in_path_or_query_is_the_clients_fault(api: Api, path: str) -> None:
    answer = await (await api.person()).get(path)
    body = answer.json()
    assert answer.status_code == 400
    assert (body["detail"] if "detail" in body else body["error"])["code"] == "BAD_REQUEST"


async def test_a_refusal_with_a_nul_in_the_path_is_still_a_refusal(api: Api) -> None:
    assert (await (await api.person("reader")).post("/v1/documents/%00/reindex")).status_code == 400


@pytest.mark.parametrize("name", ["%F0%9F%98%80", "%ED%A0%80", "%FF", "%25", "..", "'%20or%201=1--", "%E2%80%AE", "a" * 4000])
async def test_an_odd_id_is_just_not_found(api: Api, name: str) -> None:
    person = await api.person()
    for path in (f"/v1/corpora/{name}", f"/v1/runs/{name}", f"/v1/audio/{name}.mp3"):
        raw = await send_raw(api.base_url, f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {person.key}\r\n\r\n".encode())
        assert (raw.status, raw.code) == (404, "NOT_FOUND")


@pytest.mark.parametrize("given", ["abc", "A1._-", "0" * 64])
async def test_a_harmless_request_id_is_kept(api: Api, given: str) -> None:
    person = await api.person()
    for path in ("/v1/corpora", "/v1/corpora/nope", "/v1/nope", "/v1/health"):
        answer = await person.get(path, headers={"X-Request-Id": given})
        assert answer.headers["X-Request-Id"] == given == answer.json()["meta"]["request_id"]


@pytest.mark.parametrize("given", [b"0" * 65, b"x" * 100, b"a b", b"", b"-a", b'a"b', b"<b>", "ü".encode(), b"a\tb", b"req;drop"])
async def test_any_other_request_id_is_replaced(api: Api, given: bytes) -> None:
    answer = await api.anonymous().get("/v1/health", headers=[(b"X-Request-Id", given)])
    made = answer.headers["X-Request-Id"]
    assert made.startswith("req_")
    assert made == answer.json()["meta"]["request_id"]


async def test_trailers_are_no_headers(api: Api) -> None:
    raw = await send_raw(api.base_url, CHUNKED + b"0\r\nX-Request-Id: abc\r\n\r\n")
    assert raw.headers["x-request-id"].startswith("req_")


async def test_a_request_id_that_would_split_the_answer_does_not_arrive(api: Api) -> None:
    for ending in (b"\r\n\tSet-Cookie: a=b", b"\nX-Other: 1", b"\rX-Other: 1"):
        raw = await send_raw(api.base_url, b"GET /v1/health HTTP/1.1\r\nHost: x\r\nX-Request-Id: abc" + ending + b"\r\n\r\n")
        assert "set-cookie" not in raw.headers
        assert "x-other" not in raw.headers


@pytest.mark.parametrize(
    "smuggled",
    [
        b"POST /v1/corpora HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /v1/health HTTP/1.1\nHost x\n\n",
        b"GET /v1/he\x00lth HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    ],
)
async def test_ambiguous_framing_is_refused(api: Api, smuggled: bytes) -> None:
    assert (await send_raw(api.base_url, smuggled)).status == 400


@pytest.mark.parametrize("lines", [b"X-A: " + b"a" * 65_536 + b"\r\n", b"".join(b"X-%d: a\r\n" % number for number in range(100))])
async def test_a_head_beyond_the_limits_is_refused(api: Api, lines: bytes) -> None:
    assert (await send_raw(api.base_url, b"GET /v1/health HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")).status == 400


@pytest.mark.parametrize(
    ("begun", "endless"),
    [
        pytest.param(b"GET /v1/health HTTP/1.1\r\nX-A: ", b"a", id="header"),
        pytest.param(CHUNKED + b"0\r\nX-A: ", b"a", id="trailer"),
        pytest.param(CHUNKED + b"0\r\n", b"X-A: a\r\n", id="trailers"),
        pytest.param(CHUNKED + b"1;a=", b"a", id="extension of a chunk"),
        pytest.param(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n", id="empty lines"),
    ],
)
async def test_what_has_no_end_is_not_kept(api: Api, begun: bytes, endless: bytes) -> None:
    async with asyncio.timeout(10):
        _, writer = await connected(api)
        try:
            with pytest.raises(ConnectionError):
                writer.write(begun)
                while True:
                    writer.write(endless * (65_536 // len(endless)))
                    await writer.drain()
        finally:
            writer.close()


async def connected(api: Api) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(api.base_url)
    return await asyncio.open_connection(parts.hostname, parts.port)


@pytest.mark.parametrize("host", ["[", "x/../../v1", "a?b", "x:99999999", "@", "%"])
async def test_a_strange_host_changes_nothing(api: Api, host: str) -> None:
    person = await api.person("reader")
    raw = await send_raw(api.base_url, f"GET /v1/corpora HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {person.key}\r\n\r\n".encode())
    assert raw.status == 200
    refused = f"POST /v1/corpora HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {person.key}\r\nContent-Length: 0\r\n\r\n"
    assert (await send_raw(api.base_url, refused.encode())).status == 403


@pytest.mark.slow
async def test_only_allowed_hosts_are_answered(servers: Servers) -> None:
    async with serving(servers.with_env(ALLOWED_HOSTS="rag.example.org, *.internal, [::1]")) as (app, url):
        api = Api(servers, app, url)
        key = (await api.person()).key

        async def answered(*hosts: str, path: str = "/v1/corpora") -> int:
            lines = "".join(f"Host: {host}\r\n" for host in hosts)
            raw = await send_raw(url, f"GET {path} HTTP/1.1\r\n{lines}Authorization: Bearer {key}\r\n\r\n".encode())
            if raw.status != 200:
                assert raw.code == "BAD_REQUEST"
                assert json.loads(raw.body)["meta"] == {"request_id": raw.headers["x-request-id"], "api_version": "v1"}
            return raw.status

        for host in ("rag.example.org", "RAG.example.org:8000", "a.internal", "b.a.internal:80", "[::1]", "[::1]:8000"):
            assert await answered(host) == 200, host
        for host in ("evil.example", "rag.example.org.evil", "xrag.example.org", "internal", "rag.example.org:x", "a@a.internal", "["):
            assert await answered(host) == 400, host
        assert await answered("evil.example", path="/v1/health") == 400
        raw = await send_raw(url, b"GET /v1/scim/v2/Users HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert (raw.status, raw.headers["content-type"], json.loads(raw.body)["status"]) == (400, "application/scim+json", "400")
        await api.close()


async def test_a_missing_or_wrong_resource_id_in_the_body_is_no_server_error(api: Api) -> None:
    admin = await api.person()
    for path, body, expected in (
        ("/v1/run", {"session_id": "s", "corpus_id": "", "message": "x"}, ("NOT_FOUND", 404)),
        ("/v1/documents/text", {"corpus_id": "", "text": "x"}, ("NOT_FOUND", 404)),
        ("/v1/documents/text", {"corpus_id": 7, "text": "x"}, ("VALIDATION_ERROR", 422)),
        ("/v1/documents/text", ["corpus_id"], ("VALIDATION_ERROR", 422)),
        ("/v1/documents/text", None, ("VALIDATION_ERROR", 422)),
        ("/v1/ui/actions/reindex-document", {}, ("VALIDATION_ERROR", 422)),
        ("/v1/ui/actions/reindex-document", {"document_id": None}, ("VALIDATION_ERROR", 422)),
        ("/v1/ui/actions/reindex-document", {"document_id": ""}, ("NOT_FOUND", 404)),
    ):
        assert error_of(await admin.post(path, json=body)) == expected, (path, body)
