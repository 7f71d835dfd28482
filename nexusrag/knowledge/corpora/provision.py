"""Corpora as the command line makes them."""

from typing import Any

import asyncpg

from nexusrag.identity.tenants import provision as tenants
from nexusrag.infra.commands import acting_in
from nexusrag.kernel.events import EventType
from nexusrag.security.audit.provision import record


async def ensure_corpus(connection: "asyncpg.Connection[Any]", tenant: str, corpus_id: str, name: str, visibility: str) -> dict[str, Any]:
    """Make a corpus on our own index unless the tenant has one with this id. Returns id, tenant_id, name, visibility, created.

    Raises ValueError for a tenant that does not exist.
    """
    async with acting_in(connection, tenant):
        await tenants.demand(connection, tenant)
        made = await connection.fetchval(
            "insert into corpora (tenant_id, id, name, visibility, provider_config, created_by) "
            "values ($1, $2, $3, $4, '{\"retrieval\": {\"provider\": \"local_pgvector\", \"top_k_default\": 5}}', 'cli') "
            "on conflict do nothing returning id",
            tenant, corpus_id, name, visibility,
        )  # fmt: skip
        if made is not None:
            await record(connection, tenant, EventType.CORPORA_CREATED, "corpus", corpus_id)
    return {"id": corpus_id, "tenant_id": tenant, "name": name, "visibility": visibility, "created": made is not None}
