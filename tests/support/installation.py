"""A complete installation in this process: embedded servers, migrated database, API on a real socket, a worker."""

import asyncio
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from fastapi import FastAPI

from nexusrag.app import create_app
from nexusrag.domains import DOMAINS
from nexusrag.embedded.environment import EmbeddedEnvironment, prepare
from nexusrag.flags.switches.facade import Switches
from nexusrag.infra.jobs import Handlers
from nexusrag.infra.migrate import migrate
from nexusrag.infra.resources import Resources
from nexusrag.infra.runner import Runner
from nexusrag.infra.urls import connect_arguments
from nexusrag.process import open_process
from nexusrag.settings import Settings, load
from nexusrag.web.server import Server
from nexusrag.worker import crons_of

# Small and fast, but real in every part that a test can break.
ENV = {
    "EMBEDDING_PROVIDER": "fake",
    "LLM_PROVIDER": "extractive",
    "TTS_PROVIDER": "fake",
    "API_DB_POOL_SIZE": "10",
    "RUN_MAX_CONCURRENCY": "64",
    "INGEST_MAX_CONCURRENCY": "8",
    "RUN_DISCONNECT_GRACE_S": "1",
    "RUN_SSE_HEARTBEAT_S": "5",
    "OUTBOUND_ALLOWED_NETWORKS": "127.0.0.0/8",
    "LOG_LEVEL": "ERROR",
    "DEFAULT_PLAN": "enterprise",
    # Whoever runs tests beside other work has a busy machine, which is none of the tests' business.
    "OVERLOAD_PROTECTION_ENABLED": "false",
    "RATE_LIMIT_ENABLED": "false",  # its own tests switch it on
}


class Servers:
    """PostgreSQL and Redis of one test process, started once."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="nrt-", ignore_cleanup_errors=True)
        self.home = Path(self._directory.name)
        self.environment: EmbeddedEnvironment = prepare(load(self.home, ENV))
        self.settings = self.environment.settings
        try:
            asyncio.run(migrate(self.settings.stores.database_migration_url.get_secret_value()))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.environment.stop()
        self._directory.cleanup()

    def with_env(self, **changes: str) -> Settings:
        """The same servers and secrets under other settings."""
        stores = self.settings.stores
        env = {
            **ENV,
            "DATABASE_URL": stores.database_url.get_secret_value(),
            "REDIS_URL": stores.redis_url.get_secret_value(),
            "UI_CURSOR_SECRET": self.settings.web.ui_cursor_secret.get_secret_value(),
            "AUTH_KEY_PEPPER": self.settings.auth.auth_key_pepper.get_secret_value(),
            "AUTH_JWT_SECRET": self.settings.identity.auth_jwt_secret.get_secret_value(),
            "CRYPTO_LOCAL_MASTER_KEY": self.settings.storage.crypto_local_master_key.get_secret_value(),
            **changes,
        }
        return load(self.home, env)

    def restart(self, name: str, number: signal.Signals, away_s: float = 0) -> None:
        """End `postgres` or `redis` by a signal, and start it again `away_s` seconds later. Blocks."""
        (server,) = [one for one in self.environment.servers if one.name == name]
        pid = server._main_pid()
        assert pid is not None, f"{name} is away already"
        os.kill(pid, number)
        while server._main_pid() == pid:
            time.sleep(0.005)
        time.sleep(away_s)
        server.start()

    async def admin(self) -> "asyncpg.Connection[Any]":
        """A connection that row-level security does not bind, to look behind the walls."""
        url = self.settings.stores.database_migration_url.get_secret_value()
        connection: asyncpg.Connection[Any] = await asyncpg.connect(**connect_arguments(url))
        return connection


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[FastAPI, str]]:
    """The API on a free port of the loopback interface; yields the application and its base URL."""
    app = create_app(settings)
    async with listening(app, settings) as base_url:
        yield app, base_url


@asynccontextmanager
async def listening(app: FastAPI, settings: Settings) -> AsyncIterator[str]:
    """Any application behind our server, on a free port of the loopback interface; yields its base URL."""
    bound = socket.socket(proto=socket.IPPROTO_TCP)  # by which asyncio knows to send small packets at once
    bound.bind(("127.0.0.1", 0))
    server = Server(app, settings)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    while not server.started:
        if task.done():
            await task
            raise RuntimeError("the server did not start")
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def working(settings: Settings, *, lease_renewal: bool = True) -> AsyncIterator[tuple[Resources, Runner]]:
    """A worker in this process."""
    async with open_process(settings, DOMAINS) as resources:
        runner = Runner(
            resources,
            settings.ingestion.ingest_queue_name,
            resources.get(Handlers).all(),
            concurrency=settings.ingestion.ingest_max_concurrency,
            heartbeat_s=1,
            crons=crons_of(DOMAINS),
            kinds=resources.get(Switches).kinds,
        )
        stop = asyncio.Event()
        task = asyncio.create_task(runner.run(stop))
        try:
            yield resources, runner
        finally:
            stop.set()
            await task


def http(base_url: str, key: str | None = None) -> httpx.AsyncClient:
    """A client with a credential, or none."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30)
