"""Speed by ratio to a floor measured in the same run, interleaved, so that a busy machine slows both."""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter
from typing import Any

import aiohttp
import pytest

from nexusrag.billing.plans.provision import assign
from nexusrag.identity.api_keys.provision import create_key
from nexusrag.infra.commands import acting_in
from nexusrag.kernel.ids import new_id
from nexusrag.knowledge.corpora.provision import ensure_corpus
from tests.support.installation import Servers

CONCURRENCY = 16
ROUNDS = 7
ROUND_S = 2.5
TEXT = "The release gates are green tests and a restore drill. The testing strategy has four levels. " * 8

Load = Callable[[aiohttp.ClientSession], Awaitable[None]]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    held = Servers()
    yield held
    held.close()


@pytest.fixture(scope="module")
def env(servers: Servers) -> dict[str, str]:
    return environment(servers)


def environment(servers: Servers) -> dict[str, str]:
    """What both servers are started with: one API process, fake model with 20 deltas, fake embeddings."""
    settings = servers.settings
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "DATABASE_URL": settings.stores.database_url.get_secret_value(),
        "REDIS_URL": settings.stores.redis_url.get_secret_value(),
        "UI_CURSOR_SECRET": settings.web.ui_cursor_secret.get_secret_value(),
        "AUTH_KEY_PEPPER": settings.auth.auth_key_pepper.get_secret_value(),
        "AUTH_JWT_SECRET": settings.identity.auth_jwt_secret.get_secret_value(),
        "CRYPTO_LOCAL_MASTER_KEY": settings.storage.crypto_local_master_key.get_secret_value(),
        "NEXUSRAG_HOME": str(servers.home),
        "EMBEDDING_PROVIDER": "fake",
        "LLM_PROVIDER": "fake",
        "RUN_MAX_CONCURRENCY": "256",
        "INGEST_EXECUTION_MODE": "inline",
        "LOG_LEVEL": "ERROR",
        "RATE_LIMIT_ENABLED": "false",  # what they cost is measured in bench_admission
    }


@contextmanager
def process(argv: list[str], env: dict[str, str], port: int) -> Iterator[str]:
    child = subprocess.Popen([sys.executable, *argv], env=env)
    try:
        end = perf_counter() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert child.poll() is None and perf_counter() < end, "it did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def both(servers: Servers, env: dict[str, str]) -> AsyncIterator[tuple[str, str, dict[str, str]]]:
    """Ours, the floor, and the headers of an admin whose corpus `c1` holds ten documents."""
    admin = await servers.admin()
    made = await create_key(admin, pepper=env["AUTH_KEY_PEPPER"], tenant=new_id("t").replace("_", "-"), role="admin", name="bench")
    await assign(admin, made["tenant_id"], "enterprise")  # whose requests are counted and not limited
    await ensure_corpus(admin, made["tenant_id"], "c1", "c1", "tenant")
    headers = {"Authorization": f"Bearer {made['api_key']}"}
    ours, floor = free_port(), free_port()
    with (
        process(["-m", "nexusrag.cli.main", "api"], {**env, "API_PORT": str(ours)}, ours) as our_url,
        process(["-m", "tests.benchmarks.floor", str(floor)], env, floor) as floor_url,
    ):
        async with aiohttp.ClientSession(headers=headers) as session:
            for number in range(10):
                body = {"corpus_id": "c1", "text": f"{number}. {TEXT}", "document_id": f"doc-{number}"}
                async with session.post(f"{our_url}/v1/documents/text", json=body) as answer:
                    assert answer.status == 202, await answer.text()
        async with acting_in(admin, made["tenant_id"]):
            rows = await admin.fetch("select id, filename, status, content_type, size_bytes from documents")
        await admin.execute(
            "create table if not exists floor_documents (id text, filename text, status text, content_type text, size_bytes bigint); "
            "grant select on floor_documents to nexusrag_app; truncate floor_documents"
        )
        await admin.executemany("insert into floor_documents values ($1, $2, $3, $4, $5)", [tuple(row) for row in rows])
        await admin.close()
        yield our_url, floor_url, headers


def run_of(url: str, path: str) -> Load:
    async def once(session: aiohttp.ClientSession) -> None:
        body = {"session_id": new_id("s"), "corpus_id": "c1", "message": "What are the release gates?"}
        async with session.post(url + path, json=body) as answer:
            text = await answer.read()
            assert answer.status == 200 and b"event: message.final" in text and b"event: done" in text, text[:500]

    return once


def listing_of(url: str, path: str) -> Load:
    async def once(session: aiohttp.ClientSession) -> None:
        async with session.get(url + path) as answer:
            text = await answer.read()
            assert answer.status == 200 and text.count(b'"filename"') == 10, text[:500]

    return once


async def rate(session: aiohttp.ClientSession, load: Load, seconds: float) -> float:
    """Completed requests per second at the set concurrency."""
    done, end = 0, perf_counter() + seconds

    async def one() -> None:
        nonlocal done
        while perf_counter() < end:
            await load(session)
            done += 1

    began = perf_counter()
    await asyncio.gather(*(one() for _ in range(CONCURRENCY)))
    return done / (perf_counter() - began)


async def compare(headers: dict[str, str], ours: Load, floor: Load) -> tuple[float, float, float]:
    """Median rates of ours and the floor, and the median of the rounds' ratios."""
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        for load in (ours, floor):
            await rate(session, load, 1.0)
        pairs = [(await rate(session, ours, ROUND_S), await rate(session, floor, ROUND_S)) for _ in range(ROUNDS)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


async def test_a_run_reaches_four_tenths_of_the_floor(servers: Servers, env: dict[str, str]) -> None:
    async with both(servers, env) as (url, floor_url, headers):
        ours, floor, ratio = await compare(headers, run_of(url, "/v1/run"), run_of(floor_url, "/run"))
        first = await first_event_ms(url, headers)
        print(f"\nruns at concurrency {CONCURRENCY}: {ours:.0f}/s, floor {floor:.0f}/s, ratio {ratio:.2f} (at least 0.4)")
        print(f"first event on an idle machine: p50 {first:.1f} ms (at most 10)")
        assert ratio >= 0.4
        assert first <= 10


async def test_listing_documents_reaches_half_of_the_floor(servers: Servers, env: dict[str, str]) -> None:
    async with both(servers, env) as (url, floor_url, headers):
        ours, floor, ratio = await compare(headers, listing_of(url, "/v1/documents"), listing_of(floor_url, "/documents"))
        print(f"\nGET /v1/documents at concurrency {CONCURRENCY}: {ours:.0f}/s, floor {floor:.0f}/s, ratio {ratio:.2f} (at least 0.5)")
        assert ratio >= 0.5


async def first_event_ms(url: str, headers: dict[str, str]) -> float:
    """Median time from sending a run to its first bytes, one after the other."""
    times: list[float] = []
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(60):
            body: dict[str, Any] = {"session_id": new_id("s"), "corpus_id": "c1", "message": "What are the release gates?"}
            began = perf_counter()
            async with session.post(url + "/v1/run", json=body) as answer:
                await answer.content.readany()
                times.append((perf_counter() - began) * 1000)
                await answer.read()
    return statistics.median(times[10:])
