"""The command line as a client of the API, on the product's own HTTP library."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from nexusrag.settings import SettingsError, load
from nexusrag.settings.web import WebSettings

_PATIENCE_S = 120.0  # how long the command line waits in all for an API that says "later" about one request
# Refusals before anything was done: the same request may be sent again.
_LATER = frozenset({"RATE_LIMITED", "SERVICE_BUSY", "RATE_LIMIT_UNAVAILABLE", "SLA_SHED_LOAD", "IDEMPOTENCY_IN_PROGRESS"})


class ClientError(Exception):
    """The API refused or is away; the message is for the person at the terminal. `wait_s`: it may be asked again after that."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


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
        """`data` of the answer. Raises ClientError with the API's own message, once it will not be asked to wait any longer."""
        patience = _Patience()
        while True:
            try:
                return await self._once(method, path, **options)
            except ClientError as error:
                await patience.wait(error)

    async def _once(self, method: str, path: str, **options: Any) -> Any:
        try:
            async with self._session.request(method, self.url + path, **options) as answer:
                return await _data(answer)
        except aiohttp.ClientError as error:
            raise self._unanswered(error) from error

    async def upload(self, corpus: str, path: Path, document_id: str) -> Any:
        """Send a file, replacing the document with this id."""
        patience = _Patience()
        while True:
            form = aiohttp.FormData()
            form.add_field("corpus_id", corpus)
            form.add_field("document_id", document_id)
            form.add_field("overwrite", "true")
            try:
                with path.open("rb") as file:
                    form.add_field("file", file, filename=path.name)
                    return await self._once("POST", "/v1/documents", data=form)
            except ClientError as error:
                await patience.wait(error)

    @asynccontextmanager
    async def events(self, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[tuple[str, dict[str, Any]]]]:
        """The events of a run as (type, data)."""
        patience, answer = _Patience(), None
        try:
            while answer is None:
                try:
                    answer = await self._session.post(self.url + "/v1/run", json=body)
                    if answer.status != 200:
                        await _data(answer)
                except ClientError as error:
                    answer = None
                    await patience.wait(error)
            async with answer:
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
        code = error.get("code", answer.status)
        raise ClientError(f"{code}: {error.get('message', 'the API refused')}", _wait_s(answer) if code in _LATER else None)
    return body.get("data")


class _Patience:
    """Waits as long as the API asks, and not for ever."""

    def __init__(self) -> None:
        self._left_s = _PATIENCE_S

    async def wait(self, error: ClientError) -> None:
        """Return when it may be asked again. Raises the error where it may not, or has said "later" for too long."""
        if error.wait_s is None or error.wait_s > self._left_s:
            raise error
        self._left_s -= error.wait_s
        await asyncio.sleep(error.wait_s)


def _wait_s(answer: aiohttp.ClientResponse) -> float:
    """What the answer says, a second if it says nothing that we understand."""
    exact, seconds = answer.headers.get("X-RateLimit-Retry-After-Ms", ""), answer.headers.get("Retry-After", "")
    wait_s = int(exact) / 1000 if exact.isdecimal() else float(seconds) if seconds.isdecimal() else 1.0
    return max(wait_s, 0.05)


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    async for line in answer.content:
        if line.startswith(b"data: "):
            payload = json.loads(line[6:])
            yield payload.get("type", "heartbeat"), payload.get("data", {})
