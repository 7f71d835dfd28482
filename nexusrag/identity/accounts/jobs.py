"""What workers do for accounts by themselves."""

from nexusrag.identity.accounts import repository
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources

KEEP_DAYS = 30
_BATCH = 5000


async def sweep(resources: Resources) -> None:
    """Delete logins, refresh tokens and invitations that ended 30 days ago."""
    swept = _BATCH
    while swept >= _BATCH:
        async with resources.get(Database).work(None) as work:
            swept = await repository.sweep(work, KEEP_DAYS, _BATCH)
