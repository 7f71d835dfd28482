"""The one way out: HTTP with limits on time and size, and the address guard. TLS is always verified, no redirect is followed.

An address is checked where the socket is made: what was checked is what is connected to, whatever DNS says next.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from nexusrag.infra.addresses import AddressRules, UrlRefused, is_local_name
from nexusrag.infra.integrations import Integrations
from nexusrag.infra.retries import OURS, Verdict
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings.outbound import OutboundSettings

Headers = Mapping[str, str]
T = TypeVar("T")

READ_LIMIT = 16 * 1024 * 1024
_CHECK_TIMEOUT_S = 3.0
_DRAIN_LIMIT = 64 * 1024


class OutboundError(Exception):
    """The call failed. The message names no secret and no part of the body; `status` is set when the other side answered."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def verdict(self) -> Verdict:
        """What the failure says about the other side. Without an answer it is worth another attempt, if that does no harm."""
        return Verdict(theirs=True, again=self.status is None)


class OutboundTimeout(OutboundError):
    """The other side was too slow."""

    @property
    def verdict(self) -> Verdict:
        return Verdict(theirs=True, again=False)


class UrlNotAllowed(OutboundError):
    """The address may not be called."""

    @property
    def verdict(self) -> Verdict:
        return OURS


class RequestUnsayable(OutboundError):
    """What was to be sent is no JSON; nothing was."""

    @property
    def verdict(self) -> Verdict:
        return OURS


class _RefusedAddress(OSError):
    """Raised where a socket would be made for an address outside the rules."""


class _GuardedResolver(AbstractResolver):
    """The system's resolver, less every answer that may not be called."""

    def __init__(self, rules: AddressRules, inner: AbstractResolver) -> None:
        self._rules = rules
        self._inner = inner

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [answer for answer in found if self._rules.allows(answer["host"])]
        if not allowed:
            raise _RefusedAddress("the name leads to no address that may be called")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


class Outbound:
    """Outgoing HTTP of one process. Made without a loop; the session is opened at the first call, in that call's loop."""

    def __init__(
        self,
        settings: OutboundSettings | None = None,
        *,
        integrations: Integrations | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """Without `settings` only public addresses are called. `resolver` replaces the system's, for tests.

        Whoever calls does so within an attempt of `integrations`, which knows breakers and retries.
        """
        self.integrations = integrations or Integrations()
        self._rules = AddressRules(settings.allowed_networks if settings is not None else ())
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """The guarded session, for client libraries that bring their own protocol. Callers never close it."""
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(
                limit=0,
                resolver=_GuardedResolver(self._rules, self._resolver or ThreadedResolver()),
                socket_factory=self._socket,
                ssl=ssl.create_default_context(),
                keepalive_timeout=15,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                trust_env=False,
                # Compression is refused both ways: a bomb cannot be unpacked.
                headers={"Accept-Encoding": "identity", "User-Agent": "nexusrag"},
            )
        return self._session

    async def close(self) -> None:
        """Closes every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def check_url(self, url: str) -> None:
        """Raises ApiError(URL_NOT_ALLOWED) if `url` may not be called: its form, its address, or what its name means now.

        For addresses that a client stores. A public name that does not resolve at present passes: every call is checked again.
        """
        try:
            parsed = self._rules.parse(url)
            await self._check_name(parsed.raw_host or "")
        except (UrlRefused, _RefusedAddress) as error:
            raise ApiError(ErrorCode.URL_NOT_ALLOWED, f"This URL may not be called: {error}.") from None

    async def post_json(
        self, url: str, body: Any, headers: Headers, timeout_s: float, *, read_limit: int = READ_LIMIT
    ) -> tuple[int, dict[str, str], bytes]:
        """POSTs `body` as JSON and reads the answer: status, headers (names in lower case), body.

        Raises OutboundTimeout after `timeout_s` in all, UrlNotAllowed, and OutboundError for anything else, an answer of more
        than `read_limit` bytes included. An answer with a failing status is an answer.
        """
        async with _Deadline(timeout_s), self._post(url, body, headers) as answer:
            return answer.status, _lower(answer.headers), await _read(answer, read_limit)

    async def post_form(self, url: str, form: str, headers: Headers, timeout_s: float, *, read_limit: int) -> tuple[int, bytes]:
        """POSTs an encoded form and reads the answer: status, body. Raises as `post_json`."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        async with _Deadline(timeout_s), self._call("POST", url, form.encode(), {**kind, **headers}) as answer:
            return answer.status, await _read(answer, read_limit)

    async def post_bytes(self, url: str, body: bytes, headers: Headers, timeout_s: float, *, read_limit: int) -> tuple[int, bytes]:
        """POSTs exactly these bytes, such as a signature covers, and reads the answer: status, body. Raises as `post_json`."""
        async with _Deadline(timeout_s), self._call("POST", url, body, headers) as answer:
            return answer.status, await _read(answer, read_limit)

    async def get(self, url: str, headers: Headers, timeout_s: float, *, read_limit: int) -> tuple[int, bytes]:
        """GETs the answer: status, body. Raises as `post_json`."""
        async with _Deadline(timeout_s), self._call("GET", url, None, headers) as answer:
            return answer.status, await _read(answer, read_limit)

    def stream(self, url: str, body: Any, headers: Headers, *, first_byte_timeout: float, stall_timeout: float | None) -> "OutboundStream":
        """POSTs `body` as JSON and yields the answer as it arrives.

        `async with outbound.stream(...) as answer: async for chunk in answer`. Leaving the block before the end closes the
        connection at once. `first_byte_timeout` covers everything up to the first byte of the body, `stall_timeout` each
        wait after it, in seconds. Raises as `post_json`.
        """
        return OutboundStream(self._post(url, body, headers), first_byte_timeout, stall_timeout)

    def _post(self, url: str, body: Any, headers: Headers) -> "_Call":
        try:
            data = orjson.dumps(body)
        except TypeError:
            raise RequestUnsayable("the request cannot be written as JSON") from None
        return self._call("POST", url, data, {"Content-Type": "application/json", **headers})

    def _call(self, method: str, url: str, data: bytes | None, headers: Headers) -> "_Call":
        try:
            target = self._rules.parse(url)
        except UrlRefused as error:
            raise UrlNotAllowed(str(error)) from None
        return _Call(self.session(), method, target, data, headers)

    async def _check_name(self, host: str) -> None:
        resolver = self._resolver or ThreadedResolver()
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                await _GuardedResolver(self._rules, resolver).resolve(host)
        except _RefusedAddress:
            raise
        except (OSError, TimeoutError):
            if is_local_name(host):
                raise UrlRefused("the name means nothing outside a local network") from None

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self._rules.allows(address[0]):
            raise _RefusedAddress("the address may not be called")
        return socket.socket(family=family, type=kind, proto=protocol)


class OutboundStream:
    """An answer that arrives bit by bit. `status` and `headers` are known inside the block.

    `patience` is how many seconds may still be spent waiting. Each chunk sets it to the stall timeout; without one the reader
    sets it, when it has seen progress. Time in which nobody reads does not count.
    """

    def __init__(self, call: "_Call", first_byte_timeout: float, stall_timeout: float | None) -> None:
        self._call = call
        self._stall = stall_timeout
        self.patience = first_byte_timeout
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self._answer = await self._wait(self._call.__aenter__())
        self.status = self._answer.status
        self.headers = _lower(self._answer.headers)
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._call.__aexit__(*failure)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The bytes that have arrived since the last call, at least one."""
        chunk = await self._wait(_failing(self._answer.content.readany()))
        if not chunk:
            raise StopAsyncIteration
        if self._stall is not None:
            self.patience = self._stall
        return chunk

    async def _wait(self, call: Awaitable[T]) -> T:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with _Deadline(self.patience):
                return await call
        finally:
            self.patience -= loop.time() - begun

    async def drain(self, seconds: float) -> None:
        """Waits up to `seconds` for the end of an answer that holds nothing more: its connection can then be used again."""
        with contextlib.suppress(OutboundError):
            async with _Deadline(seconds):
                await _read(self._answer, _DRAIN_LIMIT)

    async def read(self, limit: int) -> bytes:
        """The whole body, for answers that are no stream, within `patience`. Raises OutboundError beyond `limit` bytes."""
        return await self._wait(_read(self._answer, limit))


class _Call:
    """One request. On leaving, the connection is closed unless the answer was read to its end."""

    def __init__(self, session: aiohttp.ClientSession, method: str, url: URL, data: bytes | None, headers: Headers) -> None:
        self._session = session
        self._method = method
        self._url = url
        self._data = data
        self._headers = headers
        self._answer: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        request = self._session.request(self._method, self._url, data=self._data, headers=self._headers, allow_redirects=False)
        self._answer = answer = await _failing(request)
        if answer.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            answer.close()
            raise OutboundError("the answer is compressed though that was not asked for", answer.status)
        return answer

    async def __aexit__(self, *_: object) -> None:
        if self._answer is not None:
            self._answer.close()  # of no effect on an answer that has already given its connection back


class _Deadline:
    """`asyncio.timeout` that raises OutboundTimeout."""

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(max(seconds, 0.0))

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self._timeout.__aexit__(kind, failure, trace)
        except TimeoutError:
            raise OutboundTimeout("no answer in time") from None


async def _failing(call: Awaitable[T]) -> T:
    """Awaits `call`; what aiohttp and the system raise becomes an OutboundError whose message holds no URL."""
    try:
        return await call
    except aiohttp.ClientSSLError:
        raise OutboundError("the certificate or the TLS connection was refused") from None
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, _RefusedAddress):
            raise UrlNotAllowed(str(error.os_error)) from None
        raise OutboundError("no connection") from None
    except TimeoutError:
        raise OutboundTimeout("no answer in time") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise OutboundError(f"the call broke off ({type(error).__name__})") from None


async def _read(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := await _failing(answer.content.readany()):
        size += len(part)
        if size > limit:
            raise OutboundError(f"the answer is longer than {limit} bytes", answer.status)
        parts.append(part)
    return b"".join(parts)


def _lower(headers: Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
