"""All SQL of permissions: one condition serves single checks, listings and retrieval."""

from typing import Any

from sqlalchemy import ColumnElement, Text, and_, bindparam, exists, func, or_

from nexusrag.access.permissions.models import DocumentPermission
from nexusrag.infra.database import Work
from nexusrag.kernel.actions import Permission
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.principal import Principal


def granted(principal: Principal | None, permission: Permission, tenant_column: Any, document_column: Any) -> ColumnElement[bool]:
    """Whether `principal` holds `permission`, or owns the document, through themselves, their key or their role.

    Without a principal the condition takes the parameters of `caller`, for statements that are built once.
    """
    user, key, role = _NAMED if principal is None else (principal.subject_id, principal.api_key_id, principal.role.value)
    grants = exists().where(
        DocumentPermission.tenant_id == tenant_column,
        DocumentPermission.document_id == document_column,
        or_(DocumentPermission.permission == permission.value, DocumentPermission.permission == Permission.OWNER.value),
        or_(
            and_(DocumentPermission.principal_type == "user", DocumentPermission.principal_id == user),
            and_(DocumentPermission.principal_type == "api_key", DocumentPermission.principal_id == key),
            and_(DocumentPermission.principal_type == "role", DocumentPermission.principal_id == role),
        ),
        or_(DocumentPermission.expires_at.is_(None), DocumentPermission.expires_at > func.now()),
    )
    # However deep inside another condition this stands, the document is that of the outermost statement.
    return grants.correlate_except(DocumentPermission)


def caller(principal: Principal) -> dict[str, str]:
    """Values for `granted` without a principal."""
    return {"caller_user": principal.subject_id, "caller_key": principal.api_key_id, "caller_role": principal.role.value}


_NAMED: tuple[Any, Any, Any] = (
    bindparam("caller_user", type_=Text),
    bindparam("caller_key", type_=Text),
    bindparam("caller_role", type_=Text),
)


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
