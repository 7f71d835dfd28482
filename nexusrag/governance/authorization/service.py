"""Why somebody may do something, or may not: the steps of a request, each with its evidence."""

from dataclasses import replace
from typing import Any

from nexusrag.access.permissions.facade import applicable
from nexusrag.access.policies.facade import Attributes, Caller, caller_of, describe
from nexusrag.governance.authorization import repository
from nexusrag.governance.authorization.schemas import Explanation, Step
from nexusrag.identity.credentials.facade import of_credential, person
from nexusrag.kernel import clock
from nexusrag.kernel.actions import POLICY_TERMS, Action, Permission, Resource
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.principal import Credential, Principal
from nexusrag.knowledge.visibility import attributes
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


async def explain(call: CallContext, principal: str, resource: str, action: str) -> Explanation:
    """Raises NOT_FOUND for a person, document or corpus that the tenant has not, BAD_REQUEST for an unknown kind or action."""
    type_, _, resource_id = resource.partition(":")
    meant = [known for known, (kind, verbs) in POLICY_TERMS.items() if kind.value == type_ and action in verbs]
    if not meant:
        raise ApiError(ErrorCode.BAD_REQUEST, f"There is no action {action!r} on {type_!r}; see GET /v1/admin/authz/actions.")
    known, document = await _resource(call, Resource(type_), resource_id)
    told = Explanation(allowed=False, principal=principal, resource=resource, action=action, decided_by="", steps=[])
    someone = await _person(call, principal)
    call.record(principal=principal, resource=resource, action=action)
    if someone is None:
        told.steps.append(Step(step="person", outcome="refuses", detail="Disabled, or the key is revoked, expired or inactive."))
        return _decided(told, "person", allowed=False)
    told.steps.append(Step(step="person", outcome="passes", detail=f"Active, with the role {someone.custom_role or someone.role}."))
    if not any(someone.may(one) for one in meant):
        detail = f"The role has not the action {meant[0]}."
        told.steps.append(Step(step="role", outcome="refuses", detail=detail))
        return _decided(told, "role", allowed=False)
    told.steps.append(Step(step="role", outcome="passes", detail=f"The role has the action {meant[0]}."))
    caller = as_caller(call, someone)
    decision = caller.policies.explain(type_, action, caller.attributes.about(known))
    matched = [one for one in decision.trace if one["applies"]]
    denying = [one for one in matched if one["effect"] == "deny"]
    if denying:
        detail = "Denied, whatever else is granted. What a condition cannot tell, it denies."
        told.steps.append(Step(step="denying_policies", outcome="refuses", detail=detail, evidence=denying))
        return _decided(told, f"policy {decision.denied_by}", allowed=False)
    told.steps.append(Step(step="denying_policies", outcome="passes", detail="No policy denies."))
    if document is None:
        detail = "Of this kind of resource, everyone may do what their role may and no policy denies."
        told.steps.append(Step(step="default", outcome="gives", detail=detail))
        return _decided(told, "role", allowed=True)
    return await _of_document(call, told, caller, document, Permission(_PERMISSIONS.get(action, action)), matched)


# Making a document is allowed by the role; for one that exists the permission to write is asked.
_PERMISSIONS = {"create": "write"}


async def _of_document(
    call: CallContext, told: Explanation, caller: Caller, document: Any, permission: Permission, matched: list[dict[str, Any]]
) -> Explanation:
    grants = await applicable(call.db, caller.principal, permission, document.id, document.corpus_id)
    corpus = await repository.corpus(call.db, document.corpus_id)
    is_open = corpus is not None and corpus["visibility"] == "tenant" and permission is Permission.READ
    allowing = [one for one in matched if one["effect"] == "allow"]
    bypass = caller.bypass and caller.principal.is_admin
    ways: tuple[tuple[str, bool, str, list[dict[str, Any]]], ...] = (
        ("grants", bool(grants), "Granted." if grants else "No grant in force gives it.", [_grant(row) for row in grants]),
        ("open_corpus", is_open, "Every member reads this corpus." if is_open else "The corpus does not give it to every member.", []),
        ("allowing_policies", bool(allowing), "A policy allows it." if allowing else "No policy allows it.", allowing),
        ("default", bypass or not caller.default_deny, _default(caller, bypass=bypass), []),
    )
    for step, gives, detail, evidence in ways:
        told.steps.append(
            Step.model_validate({"step": step, "outcome": "gives" if gives else "gives_nothing", "detail": detail, "evidence": evidence})
        )
    given = next((step for step, gives, *_ in ways if gives), None)
    return _decided(told, given or "default_deny", allowed=given is not None)


def as_caller(call: CallContext, someone: Principal) -> Caller:
    """Somebody else of the tenant, as if they had sent this request."""
    here = caller_of(call)
    return replace(here, principal=someone, attributes=Attributes(describe(someone), here.attributes.request))


async def _person(call: CallContext, named: str) -> Principal | None:
    """The person or key; None for one that would be refused. Raises NOT_FOUND."""
    kind, _, one = named.partition(":")
    auth = call.of(Settings).auth
    if kind == "api_key" and await repository.exists(call.db, "api_keys", one):
        return await of_credential(call.db, Credential.API_KEY, one, auth)
    if kind == "user" and await repository.exists(call.db, "users", one):
        return await person(call.db, one, auth)
    raise not_found("principal")


async def _resource(call: CallContext, kind: Resource, resource_id: str) -> tuple[dict[str, Any], Any]:
    """What policies may ask of it, and the document if it is one."""
    if kind is Resource.DOCUMENT:
        document = await repository.document(call.db, resource_id)
        if document is None:
            raise not_found("document")
        return attributes(document), document
    if kind is Resource.CORPUS and resource_id:
        corpus = await repository.corpus(call.db, resource_id)
        if corpus is None:
            raise not_found("corpus")
        return {**corpus, "created_at": clock.seconds(corpus["created_at"])}, None
    return {"id": resource_id} if resource_id else {}, None


def _grant(row: Any) -> dict[str, Any]:
    return {
        "permission_id": row["id"],
        "on": row["on"],
        "principal_type": row["principal_type"],
        "principal_id": row["principal_id"],
        "permission": row["permission"],
        "expires_at": clock.iso(row["expires_at"]),
    }


def _default(caller: Caller, *, bypass: bool) -> str:
    if bypass:
        return "Admins reach every document (AUTHZ_ADMIN_BYPASS_DOCUMENT_ACL)."
    return "What nothing gives is denied." if caller.default_deny else "What nothing denies is allowed (AUTHZ_DEFAULT_DENY=false)."


def _decided(told: Explanation, by: str, *, allowed: bool) -> Explanation:
    told.decided_by, told.allowed = by, allowed
    return told


def action_of(event: str, audited: Any) -> Action | None:
    """The action that an event on record is about."""
    return Action.RUNS_CREATE if event == "run.invoked" else audited.get(event)
