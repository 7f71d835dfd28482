"""Who may do what, written down from docs/guides/permissions-and-policies.md and nothing else: no SQL, no index, no product code.

A tenant is a dictionary as `worlds` makes it; a caller is ("user", id) or ("api_key", id); conditions have three outcomes.
"""

import re
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Any
from zoneinfo import ZoneInfo

ACTION = {
    "read": "documents.read", "write": "documents.create", "delete": "documents.delete", "reindex": "documents.reindex",
    "search": "corpora.search",
}  # fmt: skip
BUILT_IN = ("reader", "editor", "admin")
GIVING = ("grants", "open_corpus", "allowing_policies", "default")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def person(tenant: Any, caller: tuple[str, str]) -> Any:
    """What the caller may do by role, the names under which grants mean them, and what policies see; None for who is refused."""
    kind, one = caller
    key = tenant["keys"][one] if kind == "api_key" else None
    user_id = key["user"] if key else one
    user = tenant["users"][user_id]
    if not user["active"] or (key and key["state"] != "good"):
        return None
    groups = {group_id: group for group_id, group in tenant["groups"].items() if user_id in group["members"]}
    actions = set(tenant["roles"][user["custom_role"] or user["role"]])
    for group in groups.values():
        actions |= set(tenant["roles"][group["role"]] if group["role"] else ())
    if key:
        actions &= set(tenant["roles"][key["custom_role"] or key["role"]])
    exactly = next((role for role in BUILT_IN if set(tenant["roles"][role]) == actions), None)
    held = [role for role in BUILT_IN if set(tenant["roles"][role]) <= actions]
    roles = [("role", role) for role in (*held, user["custom_role"]) if role]
    return {
        "actions": actions, "admin": exactly == "admin", "names": {caller, ("user", user_id), *roles, *(("group", one) for one in groups)},
        "seen": {
            "id": user_id, "tenant_id": tenant["id"], "email": user["email"] or "", "custom_role": user["custom_role"] or "",
            "role": exactly or user["custom_role"] or "custom", "groups": [group["name"] for group in groups.values()],
            "group_ids": list(groups), "credential": "api_key" if key else "session", "credential_id": one if key else "",
        },
    }  # fmt: skip


def decide(tenant: Any, caller: tuple[str, str], verb: str, document_id: str, request: Any) -> str:
    """What decides about a document, `search` being reading through a search: what gives it (GIVING), or what refuses it."""
    who = person(tenant, caller)
    if who is None or ACTION[verb] not in who["actions"]:
        return "person" if who is None else "role"
    if verb == "search":
        corpus, verb = tenant["corpora"][tenant["documents"][document_id]["corpus_id"]], "read"
        if refused := deciding(tenant, "deny", "corpus", "search", who, corpus, request):
            return f"policy {refused}"
    return of_document(tenant, who, verb, document_id, request)


def of_document(tenant: Any, who: Any, verb: str, document_id: str, request: Any) -> str:
    document = tenant["documents"][document_id]
    corpus = tenant["corpora"][document["corpus_id"]]
    if corpus["deleted"]:
        return "gone"
    if denying := deciding(tenant, "deny", "document", verb, who, document, request):
        return f"policy {denying}"
    for grant in tenant["grants"]:
        in_force = grant["expires_in"] is None or grant["expires_in"] > 0
        reaches = grant["on"] in (("document", document_id), ("corpus", document["corpus_id"])) and grant["to"] in who["names"]
        if in_force and reaches and grant["permission"] in (verb, "owner"):
            return "grants"
    if verb == "read" and corpus["visibility"] == "tenant":
        return "open_corpus"
    if deciding(tenant, "allow", "document", verb, who, document, request):
        return "allowing_policies"
    return "default" if not tenant["default_deny"] or (tenant["bypass"] and who["admin"]) else "default_deny"


def told(tenant: Any, caller: tuple[str, str], verb: str, document_id: str, request: Any) -> str:
    """The code that a caller gets who asks for one document; none for what is done."""
    decided, who = decide(tenant, caller, verb, document_id, request), person(tenant, caller)
    if decided in (*GIVING, "person", "role", "gone"):
        return {"person": "AUTH_UNAUTHORIZED", "role": "AUTH_FORBIDDEN", "gone": "NOT_FOUND"}.get(decided, "")
    knows = of_document(tenant, who, "read", document_id, request) in GIVING or "permissions.read" in who["actions"]
    return "AUTHZ_DENIED" if knows else "NOT_FOUND"


def deciding(tenant: Any, effect: str, kind: str, verb: str, who: Any, resource: Any, request: Any) -> str | None:
    """The policy of this effect that applies: of several the one of highest priority."""
    values = {"principal": who["seen"], "resource": resource, "request": request}
    for policy in sorted(tenant["policies"], key=lambda policy: (-policy["priority"], policy["id"])):
        about = policy["resource_type"] in (kind, "*") and policy["action"] in (verb, "*")
        if policy["enabled"] and policy["effect"] == effect and about:
            outcome = None if policy["unreadable"] else holds(policy["condition"], values)
            if outcome is True or (outcome is None and effect == "deny"):
                return str(policy["id"])
    return None


def holds(condition: Any, values: Any) -> bool | None:
    if not condition:
        return True
    ((op, given),) = condition.items()
    if op in ("all", "any"):
        outcomes = [holds(one, values) for one in given]
        return next((end for end in (op == "any", None) if end in outcomes), op == "all")
    if op == "not":
        return None if (inside := holds(given, values)) is None else not inside
    operands = [value(one, values) for one in (given if isinstance(given, list) else [given])]
    return operands[0] is not None if op == "exists" else compare(op, *operands)


def value(operand: Any, values: Any) -> Any:
    if isinstance(operand, dict) and set(operand) == {"var"}:
        for name in operand["var"].split("."):
            values = values.get(name) if isinstance(values, dict) else None
        return values
    return operand


def compare(op: str, a: Any, b: Any) -> bool | None:
    kinds, scalars = (sort(a), sort(b)), ("string", "number", "boolean")
    if op in ("eq", "ne"):
        return (a == b) is (op == "eq") if kinds[0] == kinds[1] and kinds[0] in scalars else None
    if op in ("gt", "gte", "lt", "lte"):
        return {"gt": a > b, "gte": a >= b, "lt": a < b, "lte": a <= b}[op] if kinds in ((s, s) for s in ("string", "number")) else None
    if op == "in" or (op == "contains" and kinds[0] == "list"):
        many, one = (b, a) if op == "in" else (a, b)
        return any((sort(one), one) == (sort(each), each) for each in many) if sort(many) == "list" and sort(one) in scalars else None
    if op == "time_between":
        return window(a, b) if a else None
    if op == "ip_in":
        return any(ip_address(a) in ip_network(network) for network in b) if a else None
    if kinds != ("string", "string"):
        return None
    return bool(re.search(b, a)) if op == "matches" else {"contains": b in a, "starts_with": a.startswith(b)}[op]


def sort(one: Any) -> str | None:
    kinds = ((bool, "boolean"), (str, "string"), (int | float, "number"), (list, "list"))
    return next((name for kind, name in kinds if isinstance(one, kind)), None)


def window(time: str, hours: Any) -> bool:
    """A window that crosses midnight belongs to the day on which it began."""
    local = datetime.fromisoformat(time).astimezone(ZoneInfo(hours.get("tz", "UTC")))
    clock, today, days = local.strftime("%H:%M"), local.weekday(), hours.get("days", DAYS)
    if hours["start"] < hours["end"]:
        return hours["start"] <= clock < hours["end"] and DAYS[today] in days
    return DAYS[today] in days if clock >= hours["start"] else clock < hours["end"] and DAYS[(today - 1) % 7] in days
