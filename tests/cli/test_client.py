"""How the command line finds and asks an API: its address, and faults that are told in words."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from nexusrag.cli.client import Client, ClientError, address, address_file, client_of
from nexusrag.cli.ingest import send
from nexusrag.settings.web import WebSettings


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:81"), ("0.0.0.0", "http://127.0.0.1:81"), ("::", "http://[::1]:81"),
        ("::1", "http://[::1]:81"), ("rag.internal", "http://rag.internal:81"),
    ],
)  # fmt: skip
def test_an_api_is_asked_where_it_listens(host: str, url: str) -> None:
    assert address(WebSettings(api_host=host, api_port=81)) == url


def test_what_was_given_comes_before_what_up_says_and_that_before_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_PORT", "81")
    assert client_of(tmp_path, None, "k").url == "http://127.0.0.1:81"
    address_file(tmp_path).parent.mkdir()
    address_file(tmp_path).write_text("http://127.0.0.1:82\n")
    assert client_of(tmp_path, None, "k").url == "http://127.0.0.1:82"
    assert client_of(tmp_path, "http://there:83/", "k").url == "http://there:83"


@pytest.fixture
async def breaking() -> AsyncIterator[str]:
    """The address of an API that goes away in the middle of each answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"event: token.delta\n")
        assert request.transport is not None
        request.transport.abort()
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/")


async def test_an_api_that_goes_away_is_told_in_words(breaking: str) -> None:
    async with Client(breaking, "k") as client:
        with pytest.raises(ClientError, match="went away in the middle"):
            await client.call("GET", "/v1/corpora")
        with pytest.raises(ClientError, match="went away in the middle"):
            async with client.events({}) as events:
                async for _ in events:
                    pass


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "http://[", "ftp://127.0.0.1"])
async def test_an_address_that_nobody_answers_at_is_named(url: str) -> None:
    async with Client(url, "k") as client:
        with pytest.raises(ClientError, match="does not answer"):
            await client.call("GET", "/v1/corpora")


async def test_a_file_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    async with Client("http://127.0.0.1:9", "k") as client:
        outcome = await send(client, tmp_path / "gone.txt", "c1")
    assert (outcome.chunks, outcome.reason) == (None, "It cannot be read: No such file or directory.")


@pytest.fixture
async def busy() -> AsyncIterator[tuple[str, list[str]]]:
    """An API that says "later" to the first two requests of each path, and what it was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(f"{request.path} {len(await request.read())}")
        if request.path == "/v1/never":
            return web.json_response({"error": {"code": "RATE_LIMITED", "message": "No"}}, status=429, headers={"Retry-After": "4000"})
        if request.path == "/v1/refused":
            return web.json_response({"error": {"code": "QUOTA_EXCEEDED", "message": "No"}}, status=402)
        if sum(path.split()[0] == request.path for path in asked) <= 2:
            headers = {"Retry-After": "1", "X-RateLimit-Retry-After-Ms": "60"}
            return web.json_response({"error": {"code": "RATE_LIMITED", "message": "Later"}}, status=429, headers=headers)
        if request.path == "/v1/run":
            return web.Response(text='data: {"type": "done", "data": {}}\n\n', content_type="text/event-stream")
        return web.json_response({"data": {"id": "d1"}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/"), asked


async def test_an_api_that_says_later_is_asked_later(busy: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = busy
    file = tmp_path / "a.txt"
    file.write_text("words " * 100)
    async with Client(url, "k") as client:
        assert await client.call("GET", "/v1/corpora") == {"id": "d1"}
        assert await client.upload("c1", file, "d1") == {"id": "d1"}
        async with client.events({"message": "What?"}) as events:
            assert [kind async for kind, _ in events] == ["done"]
    uploads = [int(line.split()[1]) for line in asked if line.startswith("/v1/documents")]
    assert len(uploads) == 3 and min(uploads) == max(uploads) > 600  # the whole file each time


async def test_what_will_not_change_is_told_at_once(busy: tuple[str, list[str]]) -> None:
    url, asked = busy
    async with Client(url, "k") as client:
        with pytest.raises(ClientError, match="QUOTA_EXCEEDED"):
            await client.call("GET", "/v1/refused")
        with pytest.raises(ClientError, match="RATE_LIMITED"):  # an hour is too long to sit there
            await client.call("GET", "/v1/never")
    assert len(asked) == 2
