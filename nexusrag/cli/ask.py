"""`nexusrag ask`: streams an answer, then its citations."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from nexusrag.cli.client import Client, ClientError, client_of
from nexusrag.kernel.ids import new_id


def run(home: Path | None, question: str, corpus: str, url: str | None, key: str | None) -> int:
    """0 when an answer came."""
    console = Console()
    try:
        return asyncio.run(_main(console, client_of(home, url, key), question, corpus))
    except ClientError as error:
        console.print(f"[red]{error}[/red]")
        return 1


async def _main(console: Console, api: Client, question: str, corpus: str) -> int:
    async with api as client:
        return 0 if await show_answer(console, client, question, corpus) else 1


async def show_answer(console: Console, client: Client, question: str, corpus: str) -> bool:
    """Print the deltas as they come and the citations below; False when the run ended in an error."""
    final: dict[str, Any] | None = None
    body = {"session_id": new_id("cli"), "corpus_id": corpus, "message": question}
    async with client.events(body) as events:
        async for kind, data in events:
            if kind == "token.delta":
                sys.stdout.write(data["delta"])
                sys.stdout.flush()
            elif kind == "message.final":
                final = data
            elif kind == "error":
                console.print(f"\n[red]{data['code']}: {data['message']}[/red]")
    sys.stdout.write("\n")
    if final is None:
        return False
    if not final["grounded"]:
        console.print("[yellow]Nothing in the corpus supports an answer.[/yellow]")
    for citation in final["citations"]:
        about = citation["metadata"]
        page = f", page {about['page']}" if about["page"] else ""
        place = f"{citation['source']}{page}, characters {about['start']}–{about['end']}"
        console.print(f"  \\[{about['marker']}] {place}, score {citation['score']:.2f}", highlight=False)
        console.print(f"      “{' '.join(about['quote'].split())}”", style="dim", highlight=False, markup=False)
    return True
