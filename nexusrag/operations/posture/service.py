"""Use cases of posture."""

from nexusrag.infra.database import Database
from nexusrag.operations.posture import repository
from nexusrag.operations.posture.schemas import AuthzPosture
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


async def posture(call: CallContext) -> AuthzPosture:
    """How authorization stands in this process."""
    auth = call.of(Settings).auth
    walls = await repository.walls(call.db)
    call.record(path=call.request.url.path)
    return AuthzPosture(
        tenant_predicate_required=auth.authz_require_tenant_predicate and call.of(Database).tenant_criterion,
        enforcement_mode="predicate_only" if walls["unguarded"] else "assumed_role" if walls["could_step_around"] else "strict",
        abac_enabled=auth.authz_abac_enabled,
        default_deny=auth.authz_default_deny,
        admin_bypass_document_acl=auth.authz_admin_bypass_document_acl,
        wildcard_policies_allowed=auth.authz_allow_wildcards,
        unguarded_tables=walls["unguarded"],
    )
