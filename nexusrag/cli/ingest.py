"""`nexusrag ingest`: sends files and folders, waits until each is searchable, and says what failed and why."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from nexusrag.cli.client import Client, ClientError, client_of

_AT_ONCE = 4
_POLL_S = 0.2
_LONGEST_POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file."""

    path: Path
    chunks: int | None
    reason: str | None


def run(home: Path | None, paths: Sequence[Path], corpus: str, url: str | None, key: str | None) -> int:
    """0 when every file is searchable."""
    console = Console()
    files = sorted({file for path in paths for file in _files(path)})
    if not files:
        console.print("No files there.")
        return 1
    try:
        outcomes = asyncio.run(_main(console, client_of(home, url, key), files, corpus))
    except ClientError as error:
        console.print(f"[red]{error}[/red]")
        return 1
    return _report(console, outcomes)


async def send(client: Client, path: Path, corpus: str, document_id: str | None = None) -> Outcome:
    """Upload one file and wait for its end."""
    try:
        accepted = await client.upload(corpus, path, document_id or _document_id(path))
        pause_s = _POLL_S
        while True:
            document = await client.call("GET", accepted["status_url"])
            if document["status"] == "succeeded":
                return Outcome(path, document["num_chunks"], None)
            if document["status"] == "failed":
                return Outcome(path, None, document["failure_reason"])
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_POLL_S)
    except ClientError as error:
        return Outcome(path, None, str(error))
    except OSError as error:  # gone meanwhile, or another's
        return Outcome(path, None, f"It cannot be read: {error.strerror}.")


async def _main(console: Console, api: Client, files: Sequence[Path], corpus: str) -> list[Outcome]:
    places = asyncio.Semaphore(_AT_ONCE)
    columns = (TextColumn("ingesting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[name]}"))
    async with api as client:
        await client.call("GET", f"/v1/corpora/{corpus}")
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("ingesting", total=len(files), name="")

            async def one(path: Path) -> Outcome:
                async with places:
                    outcome = await send(client, path, corpus)
                progress.update(task, advance=1, name=path.name)
                return outcome

            return list(await asyncio.gather(*(one(path) for path in files)))


def _report(console: Console, outcomes: Sequence[Outcome]) -> int:
    failed = [outcome for outcome in outcomes if outcome.reason is not None]
    done = len(outcomes) - len(failed)
    console.print(f"{done} of {len(outcomes)} files are searchable, {sum(outcome.chunks or 0 for outcome in outcomes)} chunks.")
    if failed:
        table = Table("file", "why it failed")
        for outcome in failed:
            table.add_row(str(outcome.path), outcome.reason or "")
        console.print(table)
    return 1 if failed else 0


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)]


def _document_id(path: Path) -> str:
    """The same file gets the same id each time, so that it is replaced rather than doubled."""
    return "file-" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
