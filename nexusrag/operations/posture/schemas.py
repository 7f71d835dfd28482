"""Posture on the wire."""

from typing import Literal

from pydantic import BaseModel


class AuthzPosture(BaseModel):
    """`enforcement_mode` says how row-level security binds this process: `strict`, and its login could not step around it;
    `assumed_role`, and its login could; `predicate_only`, not at all on the `unguarded_tables`, where statements alone name the tenant.
    """

    tenant_predicate_required: bool
    enforcement_mode: Literal["strict", "assumed_role", "predicate_only"]
    abac_enabled: bool
    default_deny: bool
    admin_bypass_document_acl: bool
    wildcard_policies_allowed: bool
    unguarded_tables: list[str]
