"""All SQL of permissions: one condition serves single checks, listings and retrieval."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, any_, bindparam, exists, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from nexusrag.access.permissions.models import GROUP_MEMBERS, CorpusPermission, DocumentPermission
from nexusrag.infra.database import Work
from nexusrag.kernel.actions import Permission
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.principal import Credential, Principal

_TENANT: Any = bindparam("caller_tenant", type_=Text)
_USER: Any = bindparam("caller_user", type_=Text)
_KEY: Any = bindparam("caller_key", type_=Text)
_ROLES: Any = bindparam("caller_roles", type_=ARRAY(Text))


def granted(permission: Permission, tenant_column: Any, document_column: Any, corpus_column: Any) -> ColumnElement[bool]:
    """Whether the caller (parameters of `caller`) holds `permission`, or owns: on the document, or on the corpus that it is in.

    Through themselves, their key, their roles or the groups they are in at this moment. Expired grants count for nothing.
    """
    on_document = exists().where(
        DocumentPermission.tenant_id == tenant_column,
        DocumentPermission.document_id == document_column,
        _in_force(DocumentPermission, permission),
    )
    # However deep inside another condition these stand, the document is that of the outermost statement.
    return or_(on_document.correlate_except(DocumentPermission, GROUP_MEMBERS), granted_on_corpus(permission, tenant_column, corpus_column))


def granted_on_corpus(permission: Permission, tenant_column: Any, corpus_column: Any) -> ColumnElement[bool]:
    """The same for a corpus alone."""
    on_corpus = exists().where(
        CorpusPermission.tenant_id == tenant_column,
        CorpusPermission.corpus_id == corpus_column,
        _in_force(CorpusPermission, permission),
    )
    return on_corpus.correlate_except(CorpusPermission, GROUP_MEMBERS)


def _in_force(table: type[Any], permission: Permission) -> ColumnElement[bool]:
    # Names no other table, so that it is looked up once for a statement and not for each of its rows.
    members = select(GROUP_MEMBERS.c.group_id).where(GROUP_MEMBERS.c.tenant_id == _TENANT, GROUP_MEMBERS.c.user_id == _USER)
    return and_(
        or_(table.permission == permission.value, table.permission == Permission.OWNER.value),
        or_(
            and_(table.principal_type == "user", table.principal_id == _USER),
            and_(table.principal_type == "api_key", table.principal_id == _KEY),
            and_(table.principal_type == "role", table.principal_id == any_(_ROLES)),
            and_(table.principal_type == "group", table.principal_id.in_(members)),
        ),
        or_(table.expires_at.is_(None), table.expires_at > func.now()),
    )


def caller(principal: Principal) -> dict[str, Any]:
    """Values of the parameters of `granted`."""
    return {
        "caller_tenant": principal.tenant_id,
        "caller_user": principal.subject_id,
        "caller_key": principal.credential_id if principal.credential is Credential.API_KEY else "",
        "caller_roles": sorted(principal.role_names),
    }


async def applicable(work: Work, principal: Principal, permission: Permission, document_id: str | None, corpus_id: str | None) -> list[Any]:
    """The grants on a document and its corpus that give the permission, with where each stands (`on`)."""
    values = caller(principal)
    found: list[Any] = []
    for kind, resource_id in (("document", document_id), ("corpus", corpus_id)):
        table, key = _TABLES[kind]
        found += await work.raw.fetch(
            f"select '{kind}' as on, {_COLUMNS.format(key=key)} from {table} where tenant_id = $1 and {key} = $2 "
            "and permission in ($3, 'owner') and (expires_at is null or expires_at > now()) and case principal_type "
            "when 'user' then principal_id = $4 when 'api_key' then principal_id = $5 when 'role' then principal_id = any($6) else "
            "principal_id in (select group_id from group_members where tenant_id = $1 and user_id = $4) end order by created_at limit 100",
            work.tenant_id, resource_id, permission.value, values["caller_user"], values["caller_key"], values["caller_roles"],
        )  # fmt: skip
    return found


async def grant_owner(work: Work, document_id: str, principal: Principal) -> None:
    """The caller owns the document from now on."""
    await work.raw.execute(
        "insert into document_permissions (tenant_id, id, document_id, principal_type, principal_id, permission, granted_by) "
        "values ($1, $2, $3, 'user', $4, 'owner', $4) on conflict do nothing",
        work.tenant_id,
        new_id("perm"),
        document_id,
        principal.subject_id,
    )


# The two tables differ in their name and in that of one column.
_TABLES = {"document": ("document_permissions", "document_id"), "corpus": ("corpus_permissions", "corpus_id")}
_COLUMNS = "id, tenant_id, {key} as resource_id, principal_type, principal_id, permission, granted_by, expires_at, created_at"


async def list_of(work: Work, kind: str, resource_id: str) -> list[Any]:
    """Grants on one resource, oldest first."""
    table, key = _TABLES[kind]
    rows: list[Any] = await work.raw.fetch(
        f"select {_COLUMNS.format(key=key)} from {table} where tenant_id = $1 and {key} = $2 order by created_at, id limit 10000",
        work.tenant_id,
        resource_id,
    )
    return rows


async def put(
    work: Work, kind: str, resource_id: str, grants: Sequence[tuple[str, str, str, datetime | None]], granted_by: str
) -> list[Any]:
    """Grant each (principal type, principal id, permission, expiry); one that exists gets the new expiry. Rows in the order given."""
    table, key = _TABLES[kind]
    types, ids, permissions, expiries = zip(*grants, strict=True)
    rows = await work.raw.fetch(
        f"insert into {table} (tenant_id, id, {key}, principal_type, principal_id, permission, expires_at, granted_by) "
        "select $1, g.id, $2, g.type, g.principal, g.permission, g.expiry, $8 "
        "from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[]) as g (id, type, principal, permission, expiry) "
        f"on conflict (tenant_id, {key}, principal_type, principal_id, permission) "
        f"do update set expires_at = excluded.expires_at, granted_by = excluded.granted_by returning {_COLUMNS.format(key=key)}",
        work.tenant_id, resource_id, [new_id("perm") for _ in grants], types, ids, permissions, expiries, granted_by,
    )  # fmt: skip
    made = {(row["principal_type"], row["principal_id"], row["permission"]): row for row in rows}
    return [made[type_, principal, permission] for type_, principal, permission, _ in grants]


async def take(work: Work, kind: str, resource_id: str, permission_id: str) -> Any:
    """Remove a grant; its row, or None when there is none."""
    table, key = _TABLES[kind]
    return await work.raw.fetchrow(
        f"delete from {table} where tenant_id = $1 and {key} = $2 and id = $3 returning {_COLUMNS.format(key=key)}",
        work.tenant_id,
        resource_id,
        permission_id,
    )


async def unknown_principals(work: Work, named: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the (type, id) pairs that name nobody in this tenant."""
    types, ids = [kind for kind, _ in named], [one for _, one in named]
    rows = await work.raw.fetch(
        "select n.type, n.id from unnest($2::text[], $3::text[]) as n (type, id) where not case n.type "
        "when 'user' then exists (select 1 from users x where x.tenant_id = $1 and x.id = n.id and x.deleted_at is null) "
        "when 'api_key' then exists (select 1 from api_keys x where x.tenant_id = $1 and x.id = n.id and x.revoked_at is null) "
        "when 'group' then exists (select 1 from groups x where x.tenant_id = $1 and x.id = n.id) "
        "else n.id in ('reader', 'editor', 'admin') or exists (select 1 from custom_roles x where x.tenant_id = $1 and x.id = n.id) end "
        "order by n.type, n.id",
        work.tenant_id,
        types,
        ids,
    )
    return [(row["type"], row["id"]) for row in rows]


async def forget_role(work: Work, role_id: str) -> None:
    """Grants to a custom role go with it: another role under the same name begins with none."""
    for table, _ in _TABLES.values():
        await work.raw.execute(
            f"delete from {table} where tenant_id = $1 and principal_type = 'role' and principal_id = $2", work.tenant_id, role_id
        )
