"""`nexusrag smoke`: tries a corpus's retrieval straight from this machine, without the API and without a model."""

import asyncio
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nexusrag.access.policies.facade import unbound
from nexusrag.domains import DOMAINS
from nexusrag.embedded.environment import attach
from nexusrag.infra.database import Database
from nexusrag.kernel.actions import Role
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.principal import of_role
from nexusrag.knowledge.corpora.facade import find
from nexusrag.knowledge.retrieval.facade import Found, embed_question, options, search, where_of
from nexusrag.process import open_process
from nexusrag.settings import Settings, load


def run(home: Path | None, tenant: str, corpus_id: str, query: str, top_k: int) -> int:
    """Print the passages; 1 when retrieval failed, with its code."""
    console = Console()
    with attach(load(home)) as environment:
        try:
            found = asyncio.run(_search(environment.settings, tenant, corpus_id, query, top_k))
        except ApiError as error:
            console.print(f"[red]{error.code}: {error.message}[/red]")
            return 1
    table = Table("score", "bm25", "cosine", "document", "text")
    for passage in found.passages:
        text = " ".join(passage.text.split())[:100]
        table.add_row(f"{passage.score:.3f}", f"{passage.bm25:.2f}", f"{passage.cosine:.3f}", passage.document_id, text)
    console.print(table)
    console.print(f"{len(found.passages)} passages, {found.method}, {'complete' if found.complete else 'approximate'}")
    return 0


async def _search(settings: Settings, tenant: str, corpus_id: str, query: str, top_k: int) -> Found:
    operator = unbound(of_role(tenant, "cli", Role.ADMIN, "cli"))
    async with open_process(settings, DOMAINS) as resources:
        database = resources.get(Database)
        async with database.work(tenant) as work:
            corpus = await find(work, corpus_id)
        where = where_of(operator.principal, corpus, None)
        vector = await embed_question(resources, query)
        async with database.work(tenant, options=options(settings)) as work:
            return await search(resources, work, operator, where, query, vector, top_k)
