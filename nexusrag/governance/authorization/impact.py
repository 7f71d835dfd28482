"""What a policy changes: over documents and people by the very rule of retrieval, and over requests that are on record."""

from dataclasses import replace
from typing import Any

from nexusrag.access.policies.facade import Attributes, Policies, PolicySet, describe, read
from nexusrag.governance.authorization import repository
from nexusrag.governance.authorization.schemas import Change, Impact, ImpactIn, PersonImpact, RequestImpact
from nexusrag.governance.authorization.service import action_of, as_caller
from nexusrag.identity.credentials.facade import person
from nexusrag.kernel import clock
from nexusrag.kernel.actions import POLICY_TERMS, Permission, Resource
from nexusrag.kernel.principal import Principal
from nexusrag.knowledge.visibility import attributes, rule
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.domain import Descriptions

_VERBS = ("read", "write", "delete", "reindex")
_MOST_SHOWN = 200


async def impact(call: CallContext, policy: Any, asked: ImpactIn) -> Impact:
    """Both sides of the comparison have all enabled policies; one has this policy as well."""
    settings = call.of(Settings)
    enabled = await call.of(Policies).of(call.tenant_id)
    without = PolicySet([one for one in enabled.policies if one.id != policy["id"]])
    both = without, PolicySet([*without.policies, read(policy, settings)])
    told = Impact(
        policy_id=policy["id"], documents_examined=0, people_examined=0, requests_examined=0, people_affected=0, people=[], requests=[]
    )
    await _over_people(call, policy, both, asked, told)
    await _over_requests(call, both, asked, told)
    call.record(policy_id=policy["id"], people_affected=told.people_affected, requests_changed=len(told.requests))
    return told


async def _over_people(call: CallContext, policy: Any, both: tuple[PolicySet, PolicySet], asked: ImpactIn, told: Impact) -> None:
    if policy["resource_type"] not in (Resource.DOCUMENT.value, "*"):
        return
    verbs = [verb for verb in _VERBS if policy["action"] in (verb, "*")]
    told.documents_examined, since = await repository.newest_documents(call.db, asked.documents)
    if not verbs or since is None:
        return
    await call.db.set_options({"statement_timeout": "60000"})
    for row in await repository.people(call.db, asked.people):
        someone = await person(call.db, row["id"], call.of(Settings).auth)
        if someone is None:
            continue
        told.people_examined += 1
        before, after = (replace(as_caller(call, someone), policies=policies) for policies in both)
        affected = False
        for verb in verbs:
            permission = Permission(verb)
            gains, gained, losses, lost = await repository.difference(
                call.db, rule(before, permission, "values_before"), rule(after, permission, "values_after"), since
            )
            if gains or losses:
                affected = True
                told.people.append(
                    PersonImpact(
                        user_id=row["id"], email=row["email"], role=someone.role.value, action=verb,
                        gains=Change(count=gains, sample=gained), loses=Change(count=losses, sample=lost),
                    )
                )  # fmt: skip
        told.people_affected += affected
    told.people.sort(key=lambda one: -(one.gains.count + one.loses.count))
    del told.people[_MOST_SHOWN:]


async def _over_requests(call: CallContext, both: tuple[PolicySet, PolicySet], asked: ImpactIn, told: Impact) -> None:
    audited = call.of(Descriptions).audited
    events = [*audited, "run.invoked"]
    known: dict[str, Principal | None] = {}
    for row in await repository.requests(call.db, events, asked.requests):
        action, user = action_of(row["event_type"], audited), row["metadata"]["subject_id"]
        if user not in known:
            known[user] = await person(call.db, user, call.of(Settings).auth)
        someone = known[user]
        if action is None or someone is None or row["outcome"] != "success":
            continue
        told.requests_examined += 1
        resource, verbs = POLICY_TERMS[action]
        attributes_then = await _attributes(call, resource, row)
        said = {"time": clock.seconds(row["occurred_at"]), "ip": row["ip_address"], "method": "", "path": "", "action": action.value}
        about = Attributes(describe(someone), said, attributes_then)
        refused = [any(policies.decide(resource.value, verb, about).denied_by for verb in verbs) for policies in both]
        if refused[0] != refused[1] and len(told.requests) < _MOST_SHOWN:
            told.requests.append(
                RequestImpact(
                    request_id=row["request_id"], occurred_at=clock.iso(row["occurred_at"]) or "", user_id=user, action=action.value,
                    resource_id=row["resource_id"], now="refused" if refused[0] else "allowed", then="refused" if refused[1] else "allowed",
                )
            )  # fmt: skip


async def _attributes(call: CallContext, resource: Resource, row: Any) -> dict[str, Any]:
    """What is still known of what the request was about."""
    if resource is Resource.DOCUMENT and row["resource_id"]:
        document = await repository.document(call.db, row["resource_id"])
        if document is not None:
            return attributes(document)
    about = {"id": row["resource_id"], "corpus_id": row["metadata"].get("corpus_id"), "owner": row["metadata"]["subject_id"]}
    return {name: value for name, value in about.items() if value is not None}
