"""All SQL of tenants."""

from nexusrag.infra.database import Work


async def exists(work: Work, tenant_id: str) -> bool:
    """Whether there is such a tenant, whoever asks."""
    return await work.raw.fetchval("select id from tenant_directory($1)", tenant_id) is not None
