"""`nexusrag up`: the whole product on one machine, from nothing to a cited answer, then serving until Ctrl-C."""

import asyncio
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import asyncpg
from rich.console import Console

from nexusrag.cli import demo
from nexusrag.cli.ask import show_answer
from nexusrag.cli.client import Client, ClientError, address, address_file, key_file
from nexusrag.cli.supervise import Child, Event, Supervisor
from nexusrag.embedded.environment import EmbeddedEnvironment, prepare
from nexusrag.embedded.home import write_atomic
from nexusrag.identity.api_keys import provision
from nexusrag.infra.urls import connect_arguments
from nexusrag.settings import Settings, SettingsError, load
from nexusrag.settings.web import WebSettings

_START_S = 60
_INDEX_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was asked for on the command line."""

    workers: int
    demo: bool
    once: bool


def run(home: Path | None, *, port: int | None, workers: int, demo: bool, once: bool) -> int:
    """0 after a stop that was asked for."""
    console = Console()
    settings = load(home)
    if port is not None:
        settings = settings.model_copy(update={"web": WebSettings.model_validate({**settings.web.model_dump(), "api_port": port})})
    console.print(f"NexusRAG, everything on this machine, in {settings.home} (for one machine: see docs/guides for more)", highlight=False)
    with prepare(settings, report=lambda line: console.print(f"  {line}", highlight=False)) as environment:
        _check_port(settings.web)  # only now: a second `up` on this home has been refused for what it is
        return asyncio.run(_main(console, environment, _Wish(workers, demo or once, once)))


async def _main(console: Console, environment: EmbeddedEnvironment, wish: _Wish) -> int:
    from nexusrag.infra.migrate import migrate  # alembic and SQLAlchemy load while the servers settle

    settings = environment.settings
    owner = settings.stores.database_migration_url.get_secret_value() or settings.stores.database_url.get_secret_value()
    with console.status("migrating the database"):
        await migrate(owner)
    key = await _admin_key(settings)
    supervisor = Supervisor(_children(environment, wish), heal=environment.revive, on_event=lambda event: _tell(console, event))
    serving = asyncio.create_task(supervisor.run())
    indexing = asyncio.create_task(_keep_indexed(console, owner))
    url, told = address(settings.web), address_file(settings.home)
    try:
        async with Client(url, key) as client:
            with console.status("starting the API"):
                await _wait_until_up(client, serving)
            told.parent.mkdir(mode=0o700, exist_ok=True)  # with servers of one's own nobody else has made it
            write_atomic(told, url + "\n")
            if wish.demo:
                await _demonstrate(console, client)
        if not wish.once:
            _explain(console, url, key, environment)
            await serving
        return 0
    except ClientError as error:
        console.print(f"[red]{error}[/red] (logs: {settings.home / 'logs'})")
        return 1
    finally:
        told.unlink(missing_ok=True)
        indexing.cancel()
        supervisor.request_stop()
        await serving
        await asyncio.gather(indexing, return_exceptions=True)


async def _keep_indexed(console: Console, owner: str) -> None:
    """Beside the serving, since it may take minutes: a model that is first used beside many vectors of another has no index yet."""
    from nexusrag.knowledge.index.spaces import build_indexes  # imports what migrating has imported

    while True:
        try:
            for model in await build_indexes(owner):
                console.print(f"built the index of embedding model {model}", highlight=False)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            console.print(f"[yellow]the index of an embedding model could not be built ({type(error).__name__}): trying again[/yellow]")
        await asyncio.sleep(_INDEX_EVERY_S)


def _check_port(web: WebSettings) -> None:
    """Raises SettingsError for a port that is taken: the API would be started over and over, and another program asked in its place."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(web.api_host, web.api_port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the API does: what just ended does not count
            probe.bind(address)
    except OSError as error:
        raise SettingsError([f"--port: {web.api_host}:{web.api_port} cannot be listened on ({error.strerror}); choose another."]) from error


def _children(environment: EmbeddedEnvironment, wish: _Wish) -> list[Child]:
    settings = environment.settings
    # The environment is passed on: whatever else the operator set is meant for the children.
    env = {**os.environ, **environment.variables(), "API_PORT": str(settings.web.api_port)}
    logs = settings.home / "logs"
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = (sys.executable, "-m", "nexusrag.cli.main")
    home = ("--home", str(settings.home))
    workers = [Child(f"worker {n}", (*command, "worker", *home), env, logs / f"worker-{n}.log") for n in range(1, wish.workers + 1)]
    return [Child("api", (*command, "api", *home), env, logs / "api.log"), *workers]


async def _admin_key(settings: Settings) -> str:
    """The key of tenant t1's first admin, made once and kept in the home for its owner's eyes."""
    path = key_file(settings.home)
    if path.exists():
        return path.read_text().strip()
    stores = settings.stores
    connection = await asyncpg.connect(
        **connect_arguments(stores.database_migration_url.get_secret_value() or stores.database_url.get_secret_value())
    )
    try:
        pepper = settings.auth.auth_key_pepper.get_secret_value()
        made = await provision.create_key(connection, pepper=pepper, tenant=demo.TENANT, role="admin", name="first admin")
    finally:
        await connection.close()
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(made["api_key"] + "\n")
    partial.replace(path)
    return made["api_key"]


async def _wait_until_up(client: Client, serving: "asyncio.Task[None]") -> None:
    end = monotonic() + _START_S
    while True:
        try:
            await client.call("GET", "/v1/corpora")
            return
        except ClientError:
            if serving.done() or monotonic() > end:
                raise
            await asyncio.sleep(0.1)


async def _demonstrate(console: Console, client: Client) -> None:
    with console.status("ingesting the demo documents"):
        made = await demo.ensure(client)
    console.print(
        f"demo corpus {demo.CORPUS}: {made} documents ingested" if made else f"demo corpus {demo.CORPUS} is there", highlight=False
    )
    console.print(f"\n[bold]{demo.QUESTION}[/bold]")
    if not await show_answer(console, client, demo.QUESTION, demo.CORPUS):
        raise ClientError("The demo question got no answer.")


def _explain(console: Console, url: str, key: str, environment: EmbeddedEnvironment) -> None:
    ask = f"""'{{"session_id": "s1", "corpus_id": "{demo.CORPUS}", "message": "What is the testing strategy of agent 2.0?"}}'"""
    console.print(
        f"\nServing on {url} (interface: {url}/v1/docs, logs: {environment.settings.home / 'logs'}). Ctrl-C stops.", highlight=False
    )
    # Printed bare, so that the lines can be copied whole.
    print(f"\nexport API_KEY={key}")
    print(f'curl -s -H "Authorization: Bearer $API_KEY" {url}/v1/documents')
    print(f'curl -N -H "Authorization: Bearer $API_KEY" -H "Content-Type: application/json" -X POST {url}/v1/run -d {ask}', flush=True)


def _tell(console: Console, event: Event) -> None:
    if event.kind == "died":
        console.print(f"[yellow]{event.name} ended (exit code {event.code}); starting it again in {event.delay:.1f} s[/yellow]")
    elif event.kind == "heal_failed":
        console.print(f"[yellow]a server could not be started again: {event.reason}[/yellow]")
