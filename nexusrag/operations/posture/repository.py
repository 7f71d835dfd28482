"""All SQL of posture: the database's own catalogue, asked by the role that requests act as."""

from typing import Any

from nexusrag.infra.database import Work
from nexusrag.infra.migrate import SYSTEM_ROLE

_WALLS = (
    "select (select rolsuper or rolbypassrls or pg_has_role(session_user, $1, 'member') from pg_roles where rolname = session_user) "
    "as could_step_around, "
    "(select coalesce(array_agg(c.relname::text order by c.relname), '{}') from pg_class c "
    "join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped "
    "where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition "
    "and not row_security_active(c.oid)) as unguarded"
)


async def walls(work: Work) -> Any:
    """Whether the login could step around row-level security, and on which tenants' tables it does not bind this transaction."""
    return await work.raw.fetchrow(_WALLS, SYSTEM_ROLE)
