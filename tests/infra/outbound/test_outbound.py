"""Outgoing calls: limits of time and size, the address guard on real sockets, TLS."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nexusrag.infra.outbound import Outbound, OutboundError, OutboundTimeout, UrlNotAllowed
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings.outbound import OutboundSettings
from tests.support.openai_stand_in import OpenAIStandIn, delta, document, endless, hang, openai_stand_in, raw, refuse

LOOPBACK = OutboundSettings(outbound_allowed_networks="127.0.0.0/8")


@pytest.fixture
async def server() -> AsyncIterator[OpenAIStandIn]:
    async with openai_stand_in() as running:
        yield running


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    out = Outbound(LOOPBACK)
    yield out
    await out.close()


class Names(AbstractResolver):
    """A resolver that gives each name its answers in turn, and the last one for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): turns for name, turns in answers.items()}

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        if host not in self.answers:
            raise OSError("no such name")
        turns = self.answers[host]
        addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in addresses
        ]

    async def close(self) -> None: ...


async def until(condition: object, seconds: float = 5) -> None:
    """Polls `condition` until it is true."""
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)


def port_of(server: OpenAIStandIn) -> str:
    return server.url.split(":")[2].split("/")[0]


async def test_an_answer_comes_with_status_headers_and_bytes(server: OpenAIStandIn, outbound: Outbound) -> None:
    status, headers, body = await outbound.post_json(
        f"{server.url}/embeddings", {"input": ["ä"], "model": "m"}, {"Authorization": "Bearer k"}, 5
    )
    assert (status, headers["content-type"].split(";")[0], body[:10]) == (200, "application/json", b'{"object":')
    assert server.requests == [{"input": ["ä"], "model": "m"}]
    assert server.headers[0]["Authorization"] == "Bearer k"


async def test_a_call_that_takes_too_long_is_a_timeout(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [hang(), endless(b"x", pause=0.01)]
    for _ in range(2):
        with pytest.raises(OutboundTimeout):
            await outbound.post_json(f"{server.url}/embeddings", {}, {}, 0.2)
    await until(lambda: server.open == 0)


async def test_an_answer_beyond_the_limit_is_refused(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [endless(b"x" * 65536, pause=0)]
    with pytest.raises(OutboundError, match="longer than 100000 bytes"):
        await outbound.post_json(f"{server.url}/embeddings", {}, {}, 10, read_limit=100_000)
    await until(lambda: server.open == 0)


async def test_a_compressed_answer_is_never_unpacked(server: OpenAIStandIn, outbound: Outbound) -> None:
    bomb = gzip.compress(b"{" + b" " * 10_000_000 + b"}")
    server.behaviours = [document(bomb, headers={"Content-Encoding": "gzip"})]
    with pytest.raises(OutboundError, match="compressed"):
        await outbound.post_json(f"{server.url}/embeddings", {}, {}, 5)
    assert server.headers[0]["Accept-Encoding"] == "identity"


async def test_a_redirect_is_an_answer_and_is_not_followed(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [document(b"", status=307, headers={"Location": f"{server.url}/embeddings"})]
    status, _, _ = await outbound.post_json(f"{server.url}/embeddings", {}, {}, 5)
    assert (status, len(server.requests)) == (307, 1)


async def test_no_server_and_a_broken_answer_are_errors_without_the_url(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [raw(b"half", cut=True)]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/secret-path"
        for url in (closed, f"{server.url}/embeddings?key=secret"):
            with pytest.raises(OutboundError) as failure:
                await outbound.post_json(url, {}, {}, 5)
            assert "secret" not in str(failure.value)
            assert "127.0.0.1" not in str(failure.value)


async def test_headers_and_bodies_that_cannot_be_sent_are_errors(server: OpenAIStandIn, outbound: Outbound) -> None:
    with pytest.raises(OutboundError):
        await outbound.post_json(f"{server.url}/embeddings", {}, {"X": "a\r\nHost: b"}, 5)
    with pytest.raises(OutboundError, match="JSON"):
        await outbound.post_json(f"{server.url}/embeddings", {"text": "\ud800"}, {}, 5)
    assert server.requests == []


async def test_a_flood_of_header_lines_ends_in_an_error(outbound: Outbound) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while True:
                writer.write(b"X-A: " + b"a" * 4000 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    flooder = await asyncio.start_server(flood, "127.0.0.1", 0)
    async with flooder:
        port = flooder.sockets[0].getsockname()[1]
        with pytest.raises(OutboundError):
            await outbound.post_json(f"http://127.0.0.1:{port}/", {}, {}, 3)


async def test_a_stream_yields_bytes_as_they_arrive_and_keeps_its_connection(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [raw(delta("a"), delta("b")), refuse(429, headers={"Retry-After": "3"})]
    url = f"{server.url}/chat/completions"
    async with outbound.stream(url, {}, {}, first_byte_timeout=60, stall_timeout=60) as answer:
        assert answer.status == 200
        assert b"".join([chunk async for chunk in answer]) == delta("a") + delta("b")
    async with outbound.stream(url, {}, {}, first_byte_timeout=60, stall_timeout=60) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (429, "3")
        assert b"refused" in await answer.read(10_000)
    connections = outbound.session().connector
    assert connections is not None
    assert sum(len(pool) for pool in connections._conns.values()) == 1


async def test_leaving_a_stream_reaches_the_other_side_at_once(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [raw(delta("a"), hang=True)]
    async with outbound.stream(f"{server.url}/chat/completions", {}, {}, first_byte_timeout=60, stall_timeout=60) as answer:
        assert await anext(answer) == delta("a")
        assert server.open == 1
    await until(lambda: server.open == 0)
    assert server.cancelled == 1


async def test_cancelling_a_waiting_reader_reaches_the_other_side_at_once(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [hang()]

    async def read() -> None:
        url = f"{server.url}/chat/completions"
        async with outbound.stream(url, {}, {}, first_byte_timeout=60, stall_timeout=60) as answer:
            async for _ in answer:
                pass

    reader = asyncio.create_task(read())
    await until(lambda: server.open == 1)
    reader.cancel()
    await until(lambda: server.open == 0)
    with pytest.raises(asyncio.CancelledError):
        await reader


@pytest.mark.parametrize(("first", "stall", "sent"), [(0.2, 60.0, b""), (60.0, 0.2, b"a")])
async def test_a_silent_stream_is_a_timeout_before_and_after_its_first_byte(
    server: OpenAIStandIn, outbound: Outbound, first: float, stall: float, sent: bytes
) -> None:
    server.behaviours = [raw(sent, hang=True)]
    got = b""
    with pytest.raises(OutboundTimeout):
        async with outbound.stream(f"{server.url}/chat/completions", {}, {}, first_byte_timeout=first, stall_timeout=stall) as answer:
            async for chunk in answer:
                got += chunk
    assert got == sent
    await until(lambda: server.open == 0)


async def test_addresses_outside_the_rules_get_no_connection(server: OpenAIStandIn) -> None:
    out = Outbound()
    for url in (server.url, f"http://[::ffff:127.0.0.1]:{port_of(server)}/v1", f"http://localhost:{port_of(server)}/v1"):
        with pytest.raises(UrlNotAllowed):
            await out.post_json(f"{url}/embeddings", {}, {}, 5)
    with pytest.raises(UrlNotAllowed):
        async with out.stream(f"{server.url}/embeddings", {}, {}, first_byte_timeout=5, stall_timeout=5):
            pass
    await out.close()
    assert server.requests == []


async def test_the_guarded_session_refuses_literal_addresses_by_itself(server: OpenAIStandIn) -> None:
    out = Outbound()
    with pytest.raises(OSError, match="Cannot connect"):
        await out.session().post(f"{server.url}/embeddings", data=b"{}")
    await out.close()
    assert server.requests == []


async def test_a_name_that_changes_its_meaning_is_refused_at_the_connection(server: OpenAIStandIn) -> None:
    rebinding = Names(rebind_example=[["93.184.215.14"], ["127.0.0.1"]])
    out = Outbound(resolver=rebinding)
    url = f"http://rebind.example:{port_of(server)}/v1/embeddings"
    await out.check_url(url)
    with pytest.raises(UrlNotAllowed):
        await out.post_json(url, {}, {}, 5)
    await out.close()
    assert server.requests == []


async def test_of_several_addresses_only_allowed_ones_are_connected_to(server: OpenAIStandIn) -> None:
    mixed = Names(mixed_example=[["10.0.0.1", "::1", "127.0.0.1", "169.254.169.254"]])
    out = Outbound(LOOPBACK, resolver=mixed)
    status, _, _ = await out.post_json(f"http://mixed.example:{port_of(server)}/v1/embeddings", {"input": ["a"], "model": "m"}, {}, 5)
    await out.close()
    assert status == 200
    assert server.headers[0]["Host"].startswith("mixed.example")


async def test_urls_to_store_are_checked_by_form_address_and_name() -> None:
    names = Names(hook_example=[["93.184.215.14"]], inside_example=[["10.0.0.7"]], mail_corp=[["10.0.0.8"]])
    out = Outbound(resolver=names)
    await out.check_url("https://hook.example/x")
    await out.check_url("https://does-not-resolve-now.example/x")
    for url in (
        "http://127.0.0.1/",
        "http://inside.example/",
        "http://mail.corp/",
        "http://localhost/",
        "http://localhost./",
        "http://db/",
        "http://metadata.google.internal/",
        "gopher://hook.example/",
    ):
        with pytest.raises(ApiError) as refusal:
            await out.check_url(url)
        assert refusal.value.code is ErrorCode.URL_NOT_ALLOWED
        assert "example" not in refusal.value.message
    allowing = Outbound(OutboundSettings(outbound_allowed_networks="10.0.0.0/8"), resolver=names)
    await allowing.check_url("http://mail.corp/")


async def test_an_unknown_certificate_is_refused(tmp_path: Path) -> None:
    key, certificate = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    reached = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read(1000))
        writer.close()

    secured = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    out = Outbound(LOOPBACK)
    async with secured:
        with pytest.raises(OutboundError, match="certificate"):
            await out.post_json(f"https://127.0.0.1:{secured.sockets[0].getsockname()[1]}/", {}, {}, 5)
    await out.close()
    assert reached == []


async def test_the_system_resolver_is_used_by_default(server: OpenAIStandIn, outbound: Outbound) -> None:
    assert await ThreadedResolver().resolve("localhost")
    status, _, _ = await outbound.post_json(f"http://localhost:{port_of(server)}/v1/embeddings", {"input": ["a"], "model": "m"}, {}, 5)
    assert status == 200


def self_signed(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(clock.now() - timedelta(days=1))
        .not_valid_after(clock.now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = directory / "key.pem", directory / "certificate.pem"
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file
