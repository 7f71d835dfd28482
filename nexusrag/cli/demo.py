"""The demo corpus: three documents about an imaginary release, ingested like any other files."""

import asyncio
from pathlib import Path

from rich.console import Console

from nexusrag.cli.client import Client, ClientError, client_of
from nexusrag.cli.ingest import send

CORPUS = "c1"
TENANT = "t1"
QUESTION = "What are the release gates for Agent 2.0?"
_DOCUMENTS = Path(__file__).parent / "demo_documents"


async def ensure(client: Client) -> int:
    """Make the corpus and ingest what is missing of it. Returns how many documents were ingested now."""
    try:
        await client.call("GET", f"/v1/corpora/{CORPUS}")
    except ClientError:
        await client.call("POST", "/v1/corpora", json={"id": CORPUS, "name": "Demo corpus", "visibility": "tenant"})
    there = {item["id"] for item in await client.call("GET", f"/v1/documents?corpus_id={CORPUS}") if item["status"] == "succeeded"}
    missing = [path for path in sorted(_DOCUMENTS.glob("*.md")) if f"demo-{path.stem}" not in there]
    outcomes = await asyncio.gather(*(send(client, path, CORPUS, f"demo-{path.stem}") for path in missing))
    for outcome in outcomes:
        if outcome.reason is not None:
            raise ClientError(f"{outcome.path.name}: {outcome.reason}")
    return len(outcomes)


def seed(home: Path | None, url: str | None, key: str | None) -> int:
    """The demo through a running API."""
    console = Console()

    async def main() -> int:
        async with client_of(home, url, key) as client:
            return await ensure(client)

    try:
        made = asyncio.run(main())
    except ClientError as error:
        console.print(f"[red]{error}[/red]")
        return 1
    console.print(f"{made} documents ingested into {CORPUS}." if made else "already seeded")
    return 0
