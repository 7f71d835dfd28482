"""The command line as a client of the API, on the product's own HTTP library."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from nexusrag.settings import SettingsError, load
from nexusrag.settings.web import WebSettings


class ClientError(Exception):
    """The API refused or is away; the message is for the person at the terminal."""


class Client:
    """Speaks to one API with one key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=120)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """`data` of the answer. Raises ClientError with the API's own message."""
        try:
            async with self._session.request(method, self.url + path, **options) as answer:
                return await _data(answer)
        except aiohttp.ClientError as error:
            raise self._unanswered(error) from error

    async def upload(self, corpus: str, path: Path, document_id: str) -> Any:
        """Send a file, replacing the document with this id."""
        form = aiohttp.FormData()
        form.add_field("corpus_id", corpus)
        form.add_field("document_id", document_id)
        form.add_field("overwrite", "true")
        with path.open("rb") as file:
            form.add_field("file", file, filename=path.name)
            return await self.call("POST", "/v1/documents", data=form)

    @asynccontextmanager
    async def events(self, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[tuple[str, dict[str, Any]]]]:
        """The events of a run as (type, data)."""
        try:
            async with self._session.post(self.url + "/v1/run", json=body) as answer:
                if answer.status != 200:
                    await _data(answer)
                yield _events(answer)
        except aiohttp.ClientError as error:
            raise self._unanswered(error) from error

    def _unanswered(self, error: aiohttp.ClientError) -> ClientError:
        if isinstance(error, aiohttp.ClientPayloadError):
            return ClientError(f"The API at {self.url} went away in the middle of its answer.")
        return ClientError(f"The API at {self.url} does not answer; is `nexusrag up` running?")


def client_of(home: Path | None, url: str | None, key: str | None) -> Client:
    """A client of the given API, else of the one that `up` serves this home by. Raises SettingsError without a key."""
    settings = load(home)
    return Client(url or _kept(address_file(settings.home)) or address(settings.web), key_of(settings.home, key))


def address(web: WebSettings) -> str:
    """Where the API of these settings is reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(web.api_host, web.api_host)  # noqa: S104 - what listens everywhere is asked here
    return f"http://[{host}]:{web.api_port}" if ":" in host else f"http://{host}:{web.api_port}"


def address_file(home: Path) -> Path:
    """Where `up` says at which address it serves, as long as it does."""
    return home / "run" / "address"


def key_of(home: Path, key: str | None) -> str:
    """The given key, else the one that `up` keeps in the home."""
    if key:
        return key
    kept = _kept(key_file(home))
    if kept is None:
        raise SettingsError(["--key: not given, and `nexusrag up` has made none here; pass one or set NEXUSRAG_API_KEY"])
    return kept


def key_file(home: Path) -> Path:
    """Where `up` keeps the key of the first admin, readable by its owner alone."""
    return home / "admin-key"


def _kept(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


async def _data(answer: aiohttp.ClientResponse) -> Any:
    text = await answer.text()
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        body = {}
    if answer.status >= 400:
        error = body.get("error", {})
        raise ClientError(f"{error.get('code', answer.status)}: {error.get('message', 'the API refused')}")
    return body.get("data")


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    async for line in answer.content:
        if line.startswith(b"data: "):
            payload = json.loads(line[6:])
            yield payload.get("type", "heartbeat"), payload.get("data", {})
