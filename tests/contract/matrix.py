"""Every route with what is sent to it and where in that an id can stand: one line per route, and a new route needs its own.

`{kind}` stands for an id of that kind, `{kind?}` for one that is sent where it is looked at alone; `things.KINDS` says how one is
made. Parameters of the path stand for themselves, by their name without `_id`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nexusrag.kernel.ids import new_id
from tests.contract.table import Known

# The id for a place, of a kind, and whether it may be left out, which None does.
Fill = Callable[[str, str, bool], str | None]
_KIND = re.compile(r"{(\w+\??)}")


@dataclass(frozen=True, slots=True)
class Sent:
    """What is sent. `{fresh}` in it is new in every request.

    `taken`: places of ids that clients choose, which are their tenant's own: one that is taken there is refused. `tells`: places
    where anybody's real id is answered otherwise than one that was made up, each with why that is right. `blind`: why not even the
    owner of a thing sees a difference.
    """

    json: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    taken: tuple[str, ...] = ()
    tells: Mapping[str, str] = field(default_factory=dict)
    blind: Mapping[str, str] = field(default_factory=dict)

    def places(self, route: Known) -> list[tuple[str, str]]:
        """Each place of an id with its kind: `body:permissions[0].principal_id`."""
        found: list[tuple[str, str]] = []

        def note(place: str, kind: str, optional: bool) -> str:
            found.append((place, kind))
            return ""

        self.request(route, note)
        return found

    def request(self, route: Known, fill: Fill) -> tuple[str, dict[str, Any]]:
        """Path and options of a request in which `fill(place, kind)` gives the ids."""
        path = re.sub(r"{(\w+)}", lambda name: self._of_path(name[1], fill), route.path)
        options: dict[str, Any] = {"headers": {"X-Request-Id": "probe", **_filled(self.headers, "header:", fill)}}
        if self.query:
            options["params"] = _filled(self.query, "query:", fill)
        if self.form is not None:
            options |= {"data": _filled(self.form, "body:", fill), "files": {"file": ("a.txt", b"Planted.")}}
        elif self.json is not None:
            options["json"] = _filled(self.json, "body:", fill)
        return path, options

    def _of_path(self, name: str, fill: Fill) -> str:
        given = self.path.get(name, f"{{{'key' if name == 'key_id' else name.removesuffix('_id')}}}")
        return str(_filled(given, f"path:{name}", fill))


def _filled(given: Any, place: str, fill: Fill) -> Any:
    if isinstance(given, Mapping):
        made = {name: _filled(value, place + ("" if place.endswith(":") else ".") + name, fill) for name, value in given.items()}
        return {name: value for name, value in made.items() if value is not None}
    if isinstance(given, list):
        return [_filled(value, f"{place}[{number}]", fill) for number, value in enumerate(given)]
    if not isinstance(given, str):
        return given
    kinds = _KIND.findall(given)
    ids = [new_id("n") if kind == "fresh" else fill(place, kind.rstrip("?"), kind.endswith("?")) for kind in kinds]
    return None if None in ids else _KIND.sub(lambda _: str(ids.pop(0)), given)


def sent(json: Any = None, **more: Any) -> Sent:
    return Sent(json, **more)


def entry(route: Known) -> Sent:
    """What is sent to the route or to that of which it is an alias. A KeyError here means: the route needs a line below."""
    return ROUTES[f"{route.method} {'/v1' if route.legacy else ''}{route.path}"]


# Places that hold text or numbers of the client's own, which name nothing that is kept.
NO_IDS = frozenset({
    "name", "description", "display_name", "reason", "filename", "text", "query", "message", "q", "file", "metadata_json",
    "metadata_json.*", "filters.*", "condition_json.*", "config_json.*", "provider_config_json.*", "provider_config_json", "expires_at",
    "effective_to", "created_from", "created_to", "inactive_days", "status", "sort", "limit", "action", "resource_type", "password",
    "current_password", "new_password", "email", "tenant_name", "invitation_token", "refresh_token", "issuer", "client_id",
    "client_secret_ref", "auth_url", "token_url", "jwks_url", "userinfo_url", "scopes_json[]", "role_mapping_json.groups.*",
    "role_mapping_json.claim", "role_mapping_json.mapping.*", "return_to", "response_mode", "code", "state", "iss", "error",
    "kill_switches.*", "canary_percentages.*", "integration", "task", "actor_type", "event_type",
    "idempotency_key", "Idempotency-Key", "attributes", "excludedAttributes", "attributes[]", "excludedAttributes[]", "schemas[]",
    "version", "provider", "component", "model", "rate_value_usd", "warn_ratio", "hard_cap_mode", "monthly_budget_usd",
    "current_month_override_usd", "year_month", "at", "period_start", "period_end", "start",
    "override_json.*", "effective_from", "sortBy", "sortOrder", "startIndex", "count", "urn",
})  # fmt: skip
_NOTHING = "a supposed request: nothing is looked up"
_SCIM = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"]}
_SEARCH = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"]}
_GROUP = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "{fresh}", "members": [{"value": "{user}"}]}
_GRANTS = [
    {"principal_type": kind, "principal_id": f"{{{thing}}}", "permission": "read"}
    for kind, thing in (("user", "user"), ("api_key", "key"), ("group", "group"), ("role", "role"))
]
_KEYED = {"Idempotency-Key": "{fresh}"}
_PROVIDER = {"name": "P", "issuer": "https://idp.example", "client_id": "c", "client_secret_ref": "file:probed", "type": "oidc"}

_SLA_POLICY = {"name": "P", "tier": "pro", "config_json": {"objectives": {"availability_min_pct": 99.0}}}
_PROFILE = {
    "name": "P", "scope": "tenant", "min_replicas": 1, "max_replicas": 2, "target_p95_ms": 100, "target_queue_depth": 0,
    "cooldown_seconds": 0, "step_up": 1, "step_down": 1,
}  # fmt: skip

_PRICE = {
    "version": "v", "provider": "{fresh}", "component": "llm", "rate_type": "per_1k_tokens", "rate_value_usd": 1,
    "effective_from": "2026-01-01T00:00:00Z",
}  # fmt: skip
_MAY = {"period_start": "2025-05-01", "period_end": "2025-06-01"}

ROUTES: dict[str, Sent] = {
    "GET /v1/admin/costs/budget": sent(),
    "PATCH /v1/admin/costs/budget": sent({"monthly_budget_usd": 1000}),
    "GET /v1/admin/costs/pricing/catalog": sent(),
    "POST /v1/admin/costs/pricing/catalog": sent(_PRICE),
    "PATCH /v1/admin/costs/pricing/catalog/{price_id}": sent({"active": False}),
    "GET /v1/admin/costs/pricing/in-force": sent(query={"component": "llm", "provider": "internal"}),
    "GET /v1/admin/costs/spend/summary": sent(),
    "GET /v1/admin/costs/spend/timeseries": sent(),
    "GET /v1/admin/costs/spend/breakdown": sent(),
    "POST /v1/admin/costs/chargeback/generate": sent(query=_MAY),
    "GET /v1/admin/costs/chargeback/reports": sent(),
    "GET /v1/admin/costs/chargeback/reports/{report_id}": sent(),
    "GET /v1/admin/costs/chargeback/reports/{report_id}.csv": sent(),
    "GET /v1/self-serve/costs/budget": sent(),
    "GET /v1/self-serve/costs/spend/summary": sent(),
    "GET /v1/self-serve/costs/spend/timeseries": sent(),
    "GET /v1/self-serve/costs/spend/breakdown": sent(),
    "GET /v1/self-serve/costs/chargeback/latest": sent(),
    "GET /v1/ops/slo": sent(),
    "GET /v1/admin/sla/policies": sent(),
    "POST /v1/admin/sla/policies": sent(_SLA_POLICY),
    "PATCH /v1/admin/sla/policies/{policy_id}": sent({"name": "Taken over"}, path={"policy_id": "{sla_policy}"}),
    "POST /v1/admin/sla/policies/{policy_id}/enable": sent(path={"policy_id": "{sla_policy}"}),
    "POST /v1/admin/sla/policies/{policy_id}/disable": sent(path={"policy_id": "{sla_policy}"}),
    "GET /v1/admin/sla/assignments/{tenant_id}": sent(),
    "PATCH /v1/admin/sla/assignments/{tenant_id}": sent({"policy_id": "{sla_policy}"}),
    "GET /v1/admin/sla/measurements": sent(query={"tenant_id": "{tenant}"}),
    "GET /v1/admin/sla/incidents": sent(),
    "POST /v1/admin/sla/incidents/{incident_id}/resolve": sent(path={"incident_id": "{sla_incident}"}),
    "GET /v1/admin/sla/autoscaling/profiles": sent(),
    "POST /v1/admin/sla/autoscaling/profiles": sent({**_PROFILE, "tenant_id": "{tenant}"}),
    "PATCH /v1/admin/sla/autoscaling/profiles/{profile_id}": sent(
        {"name": "Taken over", "tenant_id": "{tenant}"}, path={"profile_id": "{autoscaling_profile}"}
    ),
    "POST /v1/admin/sla/autoscaling/evaluate": sent({"profile_id": "{autoscaling_profile}", "route_class": "run", "current_replicas": 1}),
    "POST /v1/admin/sla/autoscaling/apply": sent(
        {"profile_id": "{autoscaling_profile}", "route_class": "run", "current_replicas": 1},
        blind={"body:profile_id": "operators carry out the profiles of their own tenant"},
    ),
    "GET /v1/admin/sla/autoscaling/actions": sent(
        query={"profile_id": "{autoscaling_profile}"}, blind={"query:profile_id": "a profile that did nothing yet"}
    ),
    "GET /v1/admin/authz/actions": sent(),
    "GET /v1/admin/authz/roles": sent(),
    "POST /v1/admin/authz/roles": sent({"id": "{role}", "name": "R", "actions": ["corpora.read"]}, taken=("body:id",)),
    "PATCH /v1/admin/authz/roles/{role_id}": sent({"actions": ["corpora.read"]}),
    "DELETE /v1/admin/authz/roles/{role_id}": sent(),
    "GET /v1/admin/authz/documents/{document_id}/permissions": sent(),
    "POST /v1/admin/authz/documents/{document_id}/permissions": sent(_GRANTS[0]),
    "POST /v1/admin/authz/documents/{document_id}/permissions/bulk": sent({"permissions": _GRANTS}),
    "DELETE /v1/admin/authz/documents/{document_id}/permissions/{permission_id}": sent(path={"permission_id": "{document_grant}"}),
    "GET /v1/admin/authz/corpora/{corpus_id}/permissions": sent(),
    "POST /v1/admin/authz/corpora/{corpus_id}/permissions": sent(_GRANTS[0]),
    "POST /v1/admin/authz/corpora/{corpus_id}/permissions/bulk": sent({"permissions": _GRANTS}),
    "DELETE /v1/admin/authz/corpora/{corpus_id}/permissions/{permission_id}": sent(path={"permission_id": "{corpus_grant}"}),
    "GET /v1/admin/authz/policies": sent(),
    "POST /v1/admin/authz/policies": sent({"name": "P", "effect": "deny", "resource_type": "document", "action": "read", "enabled": False}),
    "GET /v1/admin/authz/policies/{policy_id}": sent(),
    "PATCH /v1/admin/authz/policies/{policy_id}": sent({"name": "Taken over"}),
    "DELETE /v1/admin/authz/policies/{policy_id}": sent(),
    "POST /v1/admin/authz/policies/{policy_id}/enable": sent(),
    "POST /v1/admin/authz/policies/{policy_id}/disable": sent(),
    "POST /v1/admin/authz/policies/{policy_id}/simulate": sent(
        {"resource_type": "document", "action": "read", "principal": {"id": "{user}"}, "resource": {"id": "{document}"}},
        blind={"body:principal.id": _NOTHING, "body:resource.id": _NOTHING},
    ),
    "POST /v1/admin/authz/policies/{policy_id}/impact": sent({"documents": 10}),
    "GET /v1/admin/authz/explain": sent(query={"principal": "user:{user}", "resource": "document:{document}", "action": "read"}),
    "GET /v1/admin/plans": sent(),
    "GET /v1/admin/plans/{tenant_id}": sent(),
    "PATCH /v1/admin/plans/{tenant_id}": sent({"plan_id": "enterprise"}),
    "PATCH /v1/admin/plans/{tenant_id}/overrides": sent({"feature_key": "feature.tts", "enabled": True}),
    "GET /v1/self-serve/plan": sent(),
    "GET /v1/admin/quotas/{tenant_id}": sent(),
    "PATCH /v1/admin/quotas/{tenant_id}": sent({"daily_requests_limit": 100_000}),
    "GET /v1/admin/usage/{tenant_id}": sent(query={"period": "day", "start": "2026-03-31"}),
    "GET /v1/self-serve/usage/summary": sent(),
    "GET /v1/self-serve/usage/timeseries": sent(),
    "POST /v1/self-serve/plan/upgrade-request": sent({"target_plan": "enterprise"}),
    "GET /v1/admin/identity/users": sent(query={"cursor": "{cursor?}"}),
    "PATCH /v1/admin/identity/users/{user_id}/role": sent({"custom_role": "{role}"}),
    "POST /v1/admin/identity/users/{user_id}/enable": sent(),
    "POST /v1/admin/identity/users/{user_id}/disable": sent(),
    "GET /v1/admin/identity/role-changes": sent(query={"cursor": "{cursor?}"}),
    "POST /v1/admin/identity/role-changes/{role_change_id}/approve": sent(),
    "POST /v1/admin/identity/role-changes/{role_change_id}/reject": sent(),
    "GET /v1/admin/identity/groups": sent(query={"cursor": "{cursor?}"}),
    "POST /v1/admin/identity/groups": sent({"display_name": "{fresh}"}),
    "PATCH /v1/admin/identity/groups/{group_id}": sent({"role": "admin"}),
    "DELETE /v1/admin/identity/groups/{group_id}": sent(),
    "GET /v1/admin/identity/groups/{group_id}/members": sent(query={"cursor": "{cursor?}"}),
    "POST /v1/admin/identity/groups/{group_id}/members": sent({"user_ids": ["{user}"]}),
    "DELETE /v1/admin/identity/groups/{group_id}/members/{user_id}": sent(path={"user_id": "{member}"}),
    "GET /v1/admin/identity/providers": sent(),
    "POST /v1/admin/identity/providers": sent(_PROVIDER),
    "PATCH /v1/admin/identity/providers/{provider_id}": sent({"name": "Taken over"}),
    "POST /v1/admin/identity/providers/{provider_id}/enable": sent(),
    "POST /v1/admin/identity/providers/{provider_id}/disable": sent(),
    "POST /v1/admin/identity/providers/{provider_id}/rotate-secret-ref": sent({"client_secret_ref": "file:probed-too"}),
    "GET /v1/auth/sso/providers": sent(
        query={"tenant_id": "{tenant}"}, blind={"query:tenant_id": "switched off unless SSO_PUBLIC_DISCOVERY_ENABLED"}
    ),
    "GET /v1/auth/sso/oidc/{provider_id}/start": sent(tells={"path:provider_id": "whoever logs in comes with the id of their provider"}),
    "GET /v1/auth/sso/oidc/{provider_id}/callback": sent(
        query={"code": "c", "state": "s"}, tells={"path:provider_id": "whoever logs in comes with the id of their provider"}
    ),
    "POST /v1/admin/identity/scim/token/create": sent(),
    "POST /v1/admin/identity/scim/token/revoke": sent({"token_id": "{scim_token}"}),
    "GET /v1/admin/identity/scim/tokens": sent(query={"cursor": "{cursor?}"}),
    "GET /v1/scim/v2/Users": sent(query={"filter": 'id eq "{user}"'}),
    "POST /v1/scim/v2/Users": sent(
        {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "{fresh}@b.example", "externalId": "{user}"},
        blind={"body:externalId": "a name that the client chooses"},
    ),
    "GET /v1/scim/v2/Users/{user_id}": sent(),
    "PUT /v1/scim/v2/Users/{user_id}": sent({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "{fresh}@b.example"}),
    "PATCH /v1/scim/v2/Users/{user_id}": sent(_SCIM | {"Operations": [{"op": "replace", "path": "active", "value": False}]}),
    "DELETE /v1/scim/v2/Users/{user_id}": sent(),
    "POST /v1/scim/v2/Users/.search": sent(_SEARCH | {"filter": 'id eq "{user}"'}),
    "GET /v1/scim/v2/Groups": sent(query={"filter": 'members.value eq "{member}" and id eq "{group}"'}),
    "POST /v1/scim/v2/Groups": sent(_GROUP),
    "GET /v1/scim/v2/Groups/{group_id}": sent(),
    "PUT /v1/scim/v2/Groups/{group_id}": sent(_GROUP),
    "PATCH /v1/scim/v2/Groups/{group_id}": sent(_SCIM | {"Operations": [{"op": "add", "path": "members", "value": [{"value": "{user}"}]}]}),
    "DELETE /v1/scim/v2/Groups/{group_id}": sent(),
    "POST /v1/scim/v2/Groups/.search": sent(_SEARCH | {"filter": 'id eq "{group}"'}),
    "POST /v1/scim/v2/.search": sent(_SEARCH | {"filter": 'id eq "{user}" or id eq "{group}"'}),
    "GET /v1/scim/v2/ServiceProviderConfig": sent(),
    "GET /v1/scim/v2/ResourceTypes": sent(),
    "GET /v1/scim/v2/ResourceTypes/{name}": sent(path={"name": "User"}),
    "GET /v1/scim/v2/Schemas": sent(),
    "GET /v1/scim/v2/Schemas/{urn}": sent(path={"urn": "urn:ietf:params:scim:schemas:core:2.0:User"}),
    **{f"{method} /v1/scim/v2/Me": sent() for method in ("GET", "PUT", "POST", "DELETE", "PATCH")},
    "POST /v1/scim/v2/Bulk": sent(),
    "GET /v1/admin/api-keys": sent(
        query={"tenant_id": "{tenant}", "cursor": "{cursor?}"},
    ),
    "PATCH /v1/admin/api-keys/{key_id}": sent({"custom_role": "{role}"}),
    "POST /v1/admin/api-keys/{key_id}/rotate": sent({"grace_hours": 0}),
    "GET /v1/self-serve/api-keys": sent(query={"cursor": "{cursor?}"}),
    "POST /v1/self-serve/api-keys": sent({"custom_role": "{role}", "user_id": "{user?}"}),
    "GET /v1/self-serve/api-keys/inactive-report": sent(query={"cursor": "{cursor?}"}),
    "POST /v1/self-serve/api-keys/{key_id}/revoke": sent(),
    "POST /v1/auth/register": sent({"email": "not an address", "password": "x"}),
    "POST /v1/auth/login": sent(
        {"email": "{fresh}@b.example", "password": "wrong words here", "tenant_id": "{tenant}"},
        blind={"body:tenant_id": "without the password nothing is told"},
    ),
    "POST /v1/auth/refresh": sent({"refresh_token": "x"}),
    "POST /v1/auth/logout": sent(),
    "GET /v1/auth/me": sent(),
    "POST /v1/auth/password": sent({"current_password": "x", "new_password": "y"}),
    "GET /v1/auth/sessions": sent(),
    "DELETE /v1/auth/sessions/{auth_session_id}": sent(),
    "POST /v1/admin/identity/invitations": sent({"email": "{fresh}@b.example", "custom_role": "{role}"}),
    "GET /v1/admin/identity/invitations": sent(query={"cursor": "{cursor?}"}),
    "POST /v1/admin/identity/invitations/{invitation_id}/revoke": sent(),
    "GET /v1/corpora": sent(),
    "POST /v1/corpora": sent({"id": "{corpus}", "name": "C"}, taken=("body:id",)),
    "GET /v1/corpora/{corpus_id}": sent(),
    "PATCH /v1/corpora/{corpus_id}": sent({"name": "Taken over"}),
    "DELETE /v1/corpora/{corpus_id}": sent(),
    "POST /v1/corpora/{corpus_id}/search": sent({"query": "Where is it?", "document_ids": ["{document}"]}),
    "GET /v1/documents": sent(query={"corpus_id": "{corpus}", "cursor": "{cursor?}"}),
    "POST /v1/documents": sent(form={"corpus_id": "{corpus}", "document_id": "{document}"}, taken=("body:document_id",)),
    "POST /v1/documents/text": sent(
        {"corpus_id": "{corpus}", "text": "Planted.", "document_id": "{document}", "overwrite": True}, taken=("body:document_id",)
    ),
    "GET /v1/documents/{document_id}": sent(),
    "DELETE /v1/documents/{document_id}": sent(),
    "POST /v1/documents/{document_id}/reindex": sent({}),
    "POST /v1/run": sent(
        {"session_id": "{session}", "corpus_id": "{corpus}", "message": "Where is it?"},
        headers={"Last-Event-ID": "{run?}.0"},
        tells={"body:session_id": "SESSION_TENANT_MISMATCH, by contract"},
    ),
    "GET /v1/runs/{run_id}": sent(),
    "GET /v1/runs/{run_id}/events": sent(headers={"Last-Event-ID": "{run}.0"}),
    "POST /v1/runs/{run_id}/cancel": sent(),
    "GET /v1/audio/{audio_id}.mp3": sent(),
    "GET /v1/ui/bootstrap": sent(),
    "GET /v1/ui/documents": sent(query={"corpus_id": "{corpus}", "q": "{document}", "cursor": "{cursor?}"}),
    "POST /v1/ui/actions/reindex-document": sent({"document_id": "{document}"}),
    "GET /v1/ui/activity": sent(query={"cursor": "{cursor?}"}),
    "GET /v1/ui/dashboard/summary": sent(),
    "GET /v1/admin/rollouts/killswitches": sent(query={"tenant_id": "{tenant}"}),
    "PATCH /v1/admin/rollouts/killswitches": sent({"kill_switches": {"kill.notifications": False}}),
    "GET /v1/admin/rollouts/canary": sent(query={"tenant_id": "{tenant}"}),
    "PATCH /v1/admin/rollouts/canary": sent({"canary_percentages": {"rollout.tts": 100}}),
    "POST /v1/admin/ops/actions/disable-tts": sent(query={"tenant_id": "{tenant}"}, headers=_KEYED),
    "POST /v1/admin/ops/actions/enable-shed": sent(query={"tenant_id": "{tenant}"}, headers=_KEYED),
    "POST /v1/admin/ops/actions/freeze-writes": sent({"freeze": False}, headers=_KEYED),
    "GET /v1/admin/slots": sent(),
    "POST /v1/admin/slots/reset": sent(),
    "POST /v1/admin/ops/actions/reset-breaker": sent(query={"integration": "llm.openai", "tenant_id": "{tenant}"}, headers=_KEYED),
    "POST /v1/admin/maintenance/run": sent(query={"task": "prune_idempotency"}),
    "GET /v1/admin/retention/status": sent(),
    "POST /v1/self-serve/billing/webhook-test": sent(),
    "GET /v1/health": sent(),
    "GET /v1/healthz": sent(),
    "GET /v1/metrics": sent(),
    "GET /v1/ops/health": sent(),
    "GET /v1/ops/ingestion": sent(),
    "GET /v1/ops/metrics": sent(),
    "GET /v1/ops/authz/posture": sent(),
    "GET /v1/openapi.json": sent(),
    "GET /v1/docs": sent(),
}
