"""All SQL of admission."""

from nexusrag.infra.database import Work

_WRITER = 7_203_001  # the advisory lock of whoever writes Redis's counts


async def alone(work: Work) -> bool:
    """Whether this transaction is the only one that writes counts, until it ends."""
    held: bool = await work.raw.fetchval("select pg_try_advisory_xact_lock($1)", _WRITER)
    return held
