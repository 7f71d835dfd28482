"""Cedar as an independent oracle: the same policies in its language decide alike, and the reference with them.

The part both have: typed attributes that are all there. What is missing is an error to Cedar, which then skips the policy; here it
counts against whoever asks.
"""

import json
from random import Random
from typing import Any

import cedarpy

from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.decide import PolicySet, read_policy
from nexusrag.access.policies.language import Limits
from tests.proof import reference

SETS = 1500
TYPES, ACTIONS = ("document", "corpus"), ("read", "write", "delete")
TEXTS, NUMBERS = ("a", "ab", "b", "high", "x.txt", ""), (-1, 0, 1, 2, 5)
TEXT = ("principal.id", "principal.role", "principal.credential", "resource.id", "resource.labels.team", "resource.labels.level")
NUMBER = ("resource.labels.rank", "resource.labels.size")
FLAG = ("resource.labels.draft",)
SET = ("principal.groups", "resource.labels.tags")
_SIGNS = {"eq": "==", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def values(random: Random) -> dict[str, Any]:
    def some() -> list[str]:
        return random.sample(TEXTS, random.randint(0, 3))

    labels = {
        "team": random.choice(TEXTS), "level": random.choice(TEXTS), "rank": random.choice(NUMBERS), "size": random.choice(NUMBERS),
        "draft": random.random() < 0.5, "tags": some(),
    }  # fmt: skip
    principal = {
        "id": random.choice(TEXTS),
        "role": random.choice(("reader", "editor", "a")),
        "credential": random.choice(TEXTS),
        "groups": some(),
    }
    return {"principal": principal, "resource": {"id": random.choice(TEXTS), "labels": labels}}


def condition(random: Random, depth: int = 0) -> Any:
    if depth < 3 and random.random() < 0.5:
        op = random.choice(("all", "any", "not"))
        below = [condition(random, depth + 1) for _ in range(1 if op == "not" else random.randint(1, 3))]
        return {op: below[0] if op == "not" else below}

    def var(names: tuple[str, ...]) -> dict[str, str]:
        return {"var": random.choice(names)}

    tests = (
        lambda: {random.choice(("eq", "ne")): [var(TEXT), random.choice((var(TEXT), *TEXTS))]},
        lambda: {random.choice(list(_SIGNS)): [var(NUMBER), random.choice((var(NUMBER), *NUMBERS))]},
        lambda: {random.choice(("eq", "ne")): [random.choice((True, False)), var(FLAG)]},
        lambda: {"in": [random.choice((var(TEXT), *TEXTS)), random.choice((var(SET), random.sample(TEXTS, 2)))]},
        lambda: {"contains": [var(SET), random.choice((var(TEXT), *TEXTS))]},
        lambda: {random.choice(("contains", "starts_with")): [var(TEXT), random.choice(TEXTS)]},
        lambda: {"exists": {"var": random.choice(("resource.labels.team", "resource.labels.none"))}},
    )
    return random.choice(tests)()


def policies(random: Random) -> list[dict[str, Any]]:
    return [
        {
            "id": f"p{number}", "effect": random.choice(("allow", "allow", "deny")), "resource_type": random.choice((*TYPES, "*")),
            "action": random.choice((*ACTIONS, "*")), "condition": condition(random) if random.random() < 0.95 else {},
            "priority": random.choice((1, 100)), "enabled": True, "unreadable": False,
        }
        for number in range(random.randint(0, 5))
    ]  # fmt: skip


def in_cedar(policy: dict[str, Any]) -> str:
    word = "permit" if policy["effect"] == "allow" else "forbid"
    action = "action" if policy["action"] == "*" else f'action == Action::"{policy["action"]}"'
    resource = "resource" if policy["resource_type"] == "*" else f"resource is {policy['resource_type']}"
    when = f" when {{ {_expression(policy['condition'])} }}" if policy["condition"] else ""
    return f"{word}(principal, {action}, {resource}){when};"


def _expression(given: Any) -> str:
    ((op, inside),) = given.items()
    if op in ("all", "any"):
        return "(" + (" && " if op == "all" else " || ").join(_expression(one) for one in inside) + ")"
    if op == "not":
        return f"!{_expression(inside)}"
    if op == "exists":
        path, _, name = inside["var"].rpartition(".")
        return f"({path} has {name})"
    left, right = (_operand(one) for one in inside)
    if op == "in":
        return f"{right}.contains({left})"
    if op == "starts_with" or (op == "contains" and inside[0]["var"] in TEXT):
        return f'({left} like "{"" if op == "starts_with" else "*"}{inside[1]}*")'
    return f"{left}.contains({right})" if op == "contains" else f"({left} {_SIGNS[op]} {right})"


def _operand(given: Any) -> str:
    return given["var"] if isinstance(given, dict) else json.dumps(given)


def cedar_allows(written: str, kind: str, action: str, known: dict[str, Any]) -> bool:
    entities = [
        {"uid": {"type": "Person", "id": "p"}, "attrs": known["principal"], "parents": []},
        {"uid": {"type": kind, "id": "r"}, "attrs": known["resource"], "parents": []},
    ]
    asked = {"principal": 'Person::"p"', "action": f'Action::"{action}"', "resource": f'{kind}::"r"', "context": {}}
    answer = cedarpy.is_authorized(asked, written, entities)
    assert not answer.diagnostics.errors, (answer.diagnostics.errors, written)
    return answer.decision is cedarpy.Decision.Allow


def test_cedar_decides_alike() -> None:
    random, seen, told = Random(3), set(), []
    for _ in range(SETS):
        made = policies(random)
        ours = PolicySet(
            read_policy(one["id"], one["effect"], one["resource_type"], one["action"], one["priority"], one["condition"], Limits())
            for one in made
        )
        assert not any(one.fault for one in ours.policies if one.resource_type != "corpus")
        written = "\n".join(map(in_cedar, made))
        for _ in range(2):
            known, action = values(random), random.choice(ACTIONS)
            decision = ours.decide("document", action, Attributes(known["principal"], {}, known["resource"]))
            allowed = decision.denied_by is None and decision.allowed_by is not None
            who = {"seen": known["principal"]}
            naive = {
                effect: reference.deciding({"policies": made}, effect, "document", action, who, known["resource"], {})
                for effect in ("deny", "allow")
            }
            if not allowed == cedar_allows(written, "document", action, known) == (naive["deny"] is None and naive["allow"] is not None):
                told.append(f"{written}\n{action} {known}: {decision}")
            seen.add((allowed, decision.denied_by is not None))
    assert told == []
    assert seen == {(True, False), (False, True), (False, False)}
