"""Tenants made by chance, as plain dictionaries, from so few names and values that they often meet. One number is one world for ever."""

from collections.abc import Callable
from random import Random
from typing import Any

from nexusrag.kernel.actions import ACTIONS_OF, Action, Role
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.tokens import mint

Tenant = dict[str, Any]
PERMISSIONS = ("read", "write", "delete", "reindex", "owner")
_WORDS = ("a", "A", "ab", "b", "high", "low", "x.txt", "", "1")
_SCALARS = (*_WORDS, 0, 1, 1.5, 2, True, False)
_LISTS = (["a"], ["b", "high"], [1, "1"], [True, 2], ["x"])
# Each with what it may name beside principal and request.
_OF_DOCUMENT = (
    "id", "corpus_id", "filename", "content_type", "source", "status", "owner", "size_bytes", "created_at", "updated_at", "labels.team",
    "labels.team", "labels.level", "labels.level", "labels.tags", "metadata.team", "metadata.level", "metadata.labels.team", "labels.none",
)  # fmt: skip
_OF_CORPUS = ("id", "name", "visibility", "owner", "created_at")
_OF_CALL = (
    "principal.id", "principal.role", "principal.role", "principal.custom_role", "principal.groups", "principal.group_ids",
    "principal.email", "principal.credential", "request.method", "request.action", "request.ip",
)  # fmt: skip
_CUSTOM: dict[str, frozenset[Action]] = {
    "auditor": frozenset({Action.DOCUMENTS_READ}),
    "searcher": frozenset({Action.CORPORA_SEARCH}),
    "writer": frozenset({Action.DOCUMENTS_READ, Action.DOCUMENTS_CREATE, Action.DOCUMENTS_DELETE, Action.PERMISSIONS_READ}),
    "twin": ACTIONS_OF[Role.READER],
    "chief": ACTIONS_OF[Role.ADMIN],
    "deputy": ACTIONS_OF[Role.ADMIN] - {Action.DOCUMENTS_DELETE},
}
BUILT_IN = {role.value: sorted(ACTIONS_OF[role]) for role in Role}
_UNREADABLE: tuple[Any, ...] = (
    {"like": [{"var": "resource.id"}, "d%"]},
    {"eq": [{"var": "principal.id"}, None]},
    {"any": [{"exists": {"var": "resource.id"}}, {"matches": [{"var": "resource.id"}, "(a"]}]},
    {"all": []},
    {"eq": [{"var": "resource.__class__"}, "x"]},
)
_TIMES = ("2026-03-29T00:59:59Z", "2026-06-15T12:00:00Z", "2026-06-20T21:30:00Z", "2026-11-21T16:10:00Z")
_WINDOWS = (
    {"start": "09:00", "end": "18:00"},
    {"start": "22:00", "end": "02:00", "tz": "Europe/Berlin", "days": ["sat"]},
    {"start": "02:00", "end": "24:00", "tz": "Europe/Berlin", "days": ["sun", "mon"]},
)
_ADDRESSES = ("10.0.0.1", "192.0.2.7", "2001:db8::1", None)


def request_of(random: Random) -> dict[str, Any]:
    """From where, when and how somebody asks."""
    return {
        "time": random.choice(_TIMES), "ip": random.choice(_ADDRESSES), "method": random.choice(("GET", "POST")),
        "path": "/", "action": "documents.read",
    }  # fmt: skip


def world(seed: int) -> list[Tenant]:
    """One or two tenants, of which the second has the same ids as the first wherever ids are a tenant's own."""
    random = Random(seed)
    return [tenant(random) for _ in range(random.choice((1, 1, 2)))]


def tenant(random: Random) -> Tenant:
    made: Tenant = {
        "id": f"t-{random.getrandbits(96):x}-{new_id('x')[-8:]}",
        "default_deny": random.random() < 0.85,
        "bypass": random.random() < 0.2,
        "roles": dict(BUILT_IN),
        "users": {}, "keys": {}, "groups": {}, "corpora": {}, "documents": {}, "indexed": set(), "grants": [], "policies": [],
    }  # fmt: skip
    for name in random.sample(sorted(_CUSTOM), 2):
        made["roles"][name] = sorted(_CUSTOM[name])
    customs = [name for name in made["roles"] if name in _CUSTOM]
    for number in range(random.randint(2, 4)):
        made["users"][f"usr_{number}"] = {
            "role": _role(random), "custom_role": random.choice(customs) if random.random() < 0.25 else None,
            "active": random.random() < 0.97, "email": random.choice((None, "a@b.example")),
        }  # fmt: skip
    for number in range(random.randint(0, 3)):
        role = _role(random) if random.random() < 0.3 else None
        made["groups"][f"grp_{number}"] = {"name": random.choice("AB") + str(number), "role": role, "members": []}
    for group in made["groups"].values():
        group["members"] = [user for user in made["users"] if random.random() < 0.5]
    for _ in range(random.randint(1, 2)):
        minted = mint("api", new_id("key"))
        state = random.choice(("good",) * 12 + ("revoked", "expired", "inactive"))
        made["keys"][minted.id] = {
            "user": random.choice(list(made["users"])), "role": _role(random), "state": state, "secret": minted.secret,
            "custom_role": random.choice(customs) if random.random() < 0.2 else None,
        }  # fmt: skip
    _library(random, made)
    for _ in range(random.randint(0, 10)):
        add_grant(random, made)
    for _ in range(random.choice((0, 1, 1, 2, 3, 4, 6))):
        add_policy(random, made)
    return made


def _role(random: Random) -> str:
    return random.choice(("reader", "editor", "editor", "admin"))


def _library(random: Random, made: Tenant) -> None:
    for number in range(random.randint(1, 3)):
        made["corpora"][f"c{number}"] = {
            "id": f"c{number}", "name": random.choice(_WORDS), "visibility": random.choice(("restricted", "restricted", "tenant")),
            "owner": random.choice(list(made["users"])), "created_at": _moment(random), "deleted": random.random() < 0.06,
        }  # fmt: skip
    for number in range(random.randint(8, 20)):
        name = f"d{number}"
        metadata: dict[str, Any] = {key: random.choice(_SCALARS) for key in ("team", "level") if random.random() < 0.5}
        if random.random() < 0.8:
            labels: dict[str, Any] = {key: random.choice(_SCALARS) for key in ("team", "level") if random.random() < 0.7}
            if random.random() < 0.3:
                labels["tags"] = random.choice((*_LISTS, None))
            metadata["labels"] = labels if random.random() < 0.95 else "none"
        made["documents"][name] = {
            "id": name, "corpus_id": random.choice(list(made["corpora"])), "filename": random.choice(("a.txt", "x.txt", "Ab", "b")),
            "content_type": "text/plain", "source": random.choice(("text", "file")), "status": "succeeded",
            "size_bytes": random.randint(0, 3), "owner": random.choice([*made["users"], None]),
            "created_at": _moment(random), "updated_at": _moment(random), "metadata": metadata, "labels": metadata.get("labels"),
        }  # fmt: skip
        if random.random() < 0.9:
            made["indexed"].add(name)
        else:
            made["documents"][name]["status"] = random.choice(("queued", "failed"))
        owner = made["documents"][name]["owner"]
        if owner and random.random() < 0.5:
            _grant(made, ("document", name), ("user", owner), "owner", None)


def _moment(random: Random) -> str:
    return f"2026-0{random.randint(1, 9)}-1{random.randint(0, 9)}T0{random.randint(0, 9)}:00:0{random.randint(0, 9)}Z"


def add_grant(random: Random, made: Tenant) -> None:
    kind = random.choice(("document", "document", "document", "corpus"))
    on = kind, random.choice(list(made["documents" if kind == "document" else "corpora"]))
    to_kind = random.choice(("user", "group", "role", "api_key"))
    names = {"user": made["users"], "group": made["groups"], "role": made["roles"], "api_key": made["keys"]}[to_kind]
    if names:
        # In seconds from now; the nearest past is the hardest.
        expires = random.choice((None, None, None, 3600, -3600, -0.001))
        _grant(made, on, (to_kind, random.choice(list(names))), random.choice((*PERMISSIONS, "read", "read")), expires)


def _grant(made: Tenant, on: tuple[str, str], to: tuple[str, str], permission: str, expires_in: float | None) -> None:
    if not any((one["on"], one["to"], one["permission"]) == (on, to, permission) for one in made["grants"]):
        made["grants"].append({"on": on, "to": to, "permission": permission, "expires_in": expires_in})


def add_policy(random: Random, made: Tenant) -> None:
    effect = random.choice(("allow", "allow", "deny"))
    kind = random.choice(("document",) * 6 + ("corpus", "*"))
    names = _OF_CORPUS if kind == "corpus" else _OF_DOCUMENT
    unreadable = random.random() < 0.02
    condition = random.choice(_UNREADABLE) if unreadable else _condition(random, names)
    if effect == "deny" and not unreadable:  # else nearly everything would be denied
        condition = {"all": [_condition(random, names, 1), _condition(random, names, 1), _test(random, names)]}
    verbs = ("read", "read", "read", "write", "delete", "reindex", "*")
    platform = not unreadable and random.random() < 0.1
    if platform:  # binds every tenant, so that the others are spared by the condition itself
        condition = {"all": [{"eq": [{"var": "principal.tenant_id"}, made["id"]]}, *([condition] if condition else [])]}
    made["policies"].append(
        {
            "id": new_id("pol"), "effect": effect, "resource_type": kind, "unreadable": unreadable, "platform": platform,
            "condition": condition,
            "action": random.choice(verbs if kind == "document" else (*verbs, "search", "search", "search")),
            "priority": random.choice((1, 100, 100, 200)), "enabled": random.random() < 0.9,
        }
    )  # fmt: skip


def _condition(random: Random, names: tuple[str, ...], depth: int = 0) -> Any:
    if depth == 0 and random.random() < 0.05:
        return random.choice((None, {}))
    if depth < 3 and random.random() < 0.45:
        op = random.choice(("all", "any", "not"))
        if op == "not":
            return {op: _condition(random, names, depth + 1)}
        return {op: [_condition(random, names, depth + 1) for _ in range(random.randint(1, 3))]}
    return _test(random, names)


def _test(random: Random, names: tuple[str, ...]) -> Any:
    def variable() -> dict[str, str]:
        return {"var": random.choice(_OF_CALL) if random.random() < 0.35 else f"resource.{random.choice(names)}"}

    def one_of(*choices: Any) -> Any:
        return variable() if random.random() < 0.4 else random.choice(choices)

    ordered = [value for value in _SCALARS if not isinstance(value, bool)]
    tests: dict[str, Callable[[], list[Any]]] = {
        "eq": lambda: [variable(), one_of(*_SCALARS)],
        "ne": lambda: [one_of(*_SCALARS), variable()],
        "in": lambda: [one_of(*_SCALARS), one_of(*_LISTS)],
        "contains": lambda: [one_of(*_LISTS, *_WORDS), one_of(*_WORDS)],
        "gt": lambda: [variable(), one_of(*ordered)],
        "gte": lambda: [one_of(*ordered), variable()],
        "lt": lambda: [variable(), one_of(*ordered)],
        "lte": lambda: [variable(), one_of(*ordered)],
        "starts_with": lambda: [variable(), one_of(*_WORDS)],
        "matches": lambda: [variable(), random.choice(("^a", "b$", "^[A-Z]?b?$", "a.t", "^d1?[0-9]$", "[^a]"))],
        "time_between": lambda: [{"var": "request.time"}, random.choice(_WINDOWS)],
        "ip_in": lambda: [{"var": "request.ip"}, random.choice((["10.0.0.0/8"], ["2001:db8::/32", "192.0.2.7"]))],
        "exists": lambda: [variable()],
    }
    op = random.choice(("eq", "eq", *tests))
    return {op: tests[op]()}


def alter(random: Random, made: Tenant) -> None:
    """What happens in the life of a tenant: people come and go, grants and policies too, a corpus is opened or removed."""
    for group in made["groups"].values():
        group["members"] = [user for user in made["users"] if random.random() < 0.5]
    user = random.choice(list(made["users"].values()))
    user["role"], user["active"] = _role(random), random.random() < 0.9
    made["grants"] = [grant for grant in made["grants"] if random.random() < 0.7]
    for grant in made["grants"]:
        if random.random() < 0.2:
            grant["expires_in"] = random.choice((None, 3600, -0.001))
    for _ in range(random.randint(0, 4)):
        add_grant(random, made)
    made["policies"] = [policy for policy in made["policies"] if random.random() < 0.7]
    for policy in made["policies"]:
        policy["enabled"] ^= random.random() < 0.2
    for _ in range(random.randint(0, 2)):
        add_policy(random, made)
    corpus = random.choice(list(made["corpora"].values()))
    corpus["visibility"] = random.choice(("restricted", "tenant"))
    corpus["deleted"] |= random.random() < 0.1
    document = random.choice(list(made["documents"].values()))
    document["metadata"] = {"labels": {"team": random.choice(_SCALARS)}}
    document["labels"] = document["metadata"]["labels"]
