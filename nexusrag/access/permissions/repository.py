"""All SQL of permissions: one condition serves single checks, listings and retrieval."""

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_

from nexusrag.access.permissions.models import DocumentPermission
from nexusrag.infra.database import Work
from nexusrag.kernel.actions import Permission
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.principal import Principal


def granted(principal: Principal, permission: Permission, tenant_column: Any, document_column: Any) -> ColumnElement[bool]:
    """Whether `principal` holds `permission`, or owns the document, through themselves, their key or their role."""
    return exists().where(
        DocumentPermission.tenant_id == tenant_column,
        DocumentPermission.document_id == document_column,
        DocumentPermission.permission.in_((permission.value, Permission.OWNER.value)),
        or_(
            and_(DocumentPermission.principal_type == "user", DocumentPermission.principal_id == principal.subject_id),
            and_(DocumentPermission.principal_type == "api_key", DocumentPermission.principal_id == principal.api_key_id),
            and_(DocumentPermission.principal_type == "role", DocumentPermission.principal_id == principal.role.value),
        ),
        or_(DocumentPermission.expires_at.is_(None), DocumentPermission.expires_at > func.now()),
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
