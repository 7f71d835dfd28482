"""What the ids of the matrix name: one of each kind, made for a person of a tenant. A new kind needs a line in KINDS."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from nexusrag.kernel.ids import new_id, unguessable_id
from nexusrag.kernel.tokens import keyed_hash, mint
from tests.support.api import Api, Person
from tests.support.behind import rows
from tests.support.installation import http

CANARY = "Zanzibar"
QUESTION = "Where is the treasure buried?"


@dataclass
class Stock:
    """Things of one tenant. `owner` is an admin of it, who made them all; `visibility` is that of corpora."""

    api: Api
    owner: Person
    visibility: str = "restricted"
    ids: dict[str, str] = field(default_factory=dict)

    async def fill(self) -> "Stock":
        """One of each kind, and two of those that are listed, so that a listing has a second page."""
        for kind, make in KINDS.items():
            for _ in range(1 if kind in ("run", "session", "audio") else 2):
                self.ids[kind] = await make(self)
        return self

    async def make(self, kind: str) -> str:
        """A new one of the kind in the place of the former, with what belongs to it."""
        made = self.ids[kind] = await KINDS[kind](self)
        for belonging in _BELONGING.get(kind, ()):
            self.ids[belonging] = await KINDS[belonging](self)
        return made

    def copy(self) -> "Stock":
        return Stock(self.api, self.owner, self.visibility, dict(self.ids))

    async def insert(self, table: str, kind: str, /, **columns: Any) -> str:
        """A row of the tenant's; its new id."""
        made = columns.setdefault("id", new_id(kind))
        names = ("tenant_id", *columns)
        places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
        await rows(self.api, f"insert into {table} ({', '.join(names)}) values ({places})", self.owner.tenant, *columns.values())
        return str(made)


Maker = Callable[[Stock], Awaitable[str]]


async def _run(stock: Stock) -> str:
    """A run that was asked aloud, with its session and its audio."""
    session = stock.ids["session"] = new_id("s")
    events = await stock.owner.run(stock.ids["corpus"], QUESTION, audio=True, session_id=session)
    (spoken,) = [event for event in events if event.type == "audio.ready"]
    stock.ids["audio"] = spoken.data["data"]["audio_id"]
    assert any(CANARY in event.raw for event in events)
    return (events[0].id or "").partition(".")[0]


async def _of_the_run(stock: Stock, kind: str) -> str:
    await _run(stock)
    return stock.ids[kind]


async def _member(stock: Stock) -> str:
    user = await _user(stock)
    await rows(
        stock.api,
        "insert into group_members (tenant_id, group_id, user_id) values ($1, $2, $3)",
        stock.owner.tenant,
        stock.ids["group"],
        user,
    )
    return user


async def _user(stock: Stock) -> str:
    name = new_id("usr")
    return await stock.insert(
        "users", "usr", id=name, external_subject=name, role="reader", email=f"{name}@b.example", user_name=f"{name}@b.example",
        display_name=CANARY,
    )  # fmt: skip


async def _key(stock: Stock) -> str:
    user = await _user(stock)
    minted = mint("api", new_id("key"))
    long_ago = datetime.now(UTC) - timedelta(days=200)  # so that it is among those that nobody uses
    return await stock.insert(
        "api_keys", "key", id=minted.id, user_id=user, name=CANARY, role="reader", prefix=minted.prefix, hash=_hash(stock, minted.secret),
        created_at=long_ago,
    )  # fmt: skip


async def _role_change(stock: Stock) -> str:
    user = await _user(stock)
    return await stock.insert("role_changes", "rch", user_id=user, role="editor", requested_by="usr_0", expires_at=_later())


async def _provider(stock: Stock) -> str:
    return await stock.insert(
        "identity_providers", "idp", type="oidc", name=CANARY, issuer="https://idp.example", client_id="c", client_secret_ref="file:probed",
        auth_url="https://idp.example/a", token_url="https://idp.example/t", jwks_url="https://idp.example/j", default_role="reader",
        enabled=True,
    )  # fmt: skip


async def _scim_token(stock: Stock) -> str:
    minted = mint("scim", new_id("scim"))
    return await stock.insert("scim_tokens", "scim", id=minted.id, prefix=minted.prefix, hash=_hash(stock, minted.secret))


async def _price(stock: Stock) -> str:
    return await stock.insert(
        "prices", "price", version=CANARY, provider=new_id("p"), component="llm", rate_type="per_mb", rate_value_usd=1,
        effective_from=_later(), active=True,
    )  # fmt: skip


async def _report(stock: Stock) -> str:
    return await stock.insert(
        "chargeback_reports", "cbr", period_start=datetime(2025, 5, 1, tzinfo=UTC), period_end=datetime(2025, 6, 1, tzinfo=UTC),
        currency="USD", total_usd=0, breakdown_json=f'{{"lines": [], "total_usd_exact": "0", "note": "{CANARY}"}}',
    )  # fmt: skip


async def _incident(stock: Stock) -> str:
    # Under a policy that is not judged: where none binds the tenant, its incidents end by themselves.
    await rows(
        stock.api,
        "insert into sla_assignments (tenant_id, policy_id, evaluated_to) "
        "values ($1, $2, now() + interval '1 year') on conflict do nothing",
        stock.owner.tenant,
        stock.ids["sla_policy"],
    )
    return await stock.insert("sla_incidents", "inc", policy_id=CANARY, policy_version=1, route_class=new_id("c"), window_end=_later())


def _hash(stock: Stock, secret: str) -> bytes:
    return keyed_hash(secret, stock.api.servers.settings.auth.auth_key_pepper.get_secret_value())


def _later() -> Any:
    return datetime.now(UTC) + timedelta(days=1)


def _grant(kind: str) -> Maker:
    async def make(stock: Stock) -> str:
        named = {f"{kind}_id": stock.ids[kind], "principal_type": "user", "principal_id": await _user(stock), "permission": "read"}
        return await stock.insert(f"{kind}_permissions", "perm", **named)

    return make


SLA_CONFIG = '{"objectives": {"availability_min_pct": 99}}'

# In an order in which each can be made of those before it.
KINDS: dict[str, Maker] = {
    "tenant": lambda stock: _same(stock.owner.tenant),
    "corpus": lambda stock: stock.owner.corpus(stock.visibility, name=CANARY),
    "document": lambda stock: stock.owner.text(stock.ids["corpus"], f"The treasure is buried in {CANARY}."),
    "session": lambda stock: _of_the_run(stock, "session"),
    "audio": lambda stock: _of_the_run(stock, "audio"),
    "run": _run,
    "user": _user,
    "key": _key,
    "group": lambda stock: stock.insert("groups", "grp", display_name=f"{CANARY} {new_id('g')}"),
    "member": _member,
    "role": lambda stock: stock.insert("custom_roles", "r", id=new_id("r"), name=CANARY, base="reader", actions=["corpora.read"]),
    "role_change": _role_change,
    "policy": lambda stock: stock.insert(
        "policies", "pol", name=CANARY, effect="deny", resource_type="document", action="delete", enabled=False
    ),
    "document_grant": _grant("document"),
    "corpus_grant": _grant("corpus"),
    "auth_session": lambda stock: stock.insert("auth_sessions", "ses", user_id=stock.owner.user_id, kind="password", expires_at=_later()),
    "invitation": lambda stock: stock.insert(
        "invitations", "inv", email=f"{CANARY}@b.example", role="reader", hash=new_id("h").encode(), expires_at=_later()
    ),
    "provider": _provider,
    "scim_token": _scim_token,
    "price": _price,
    "report": _report,
    "sla_policy": lambda stock: stock.insert("sla_policies", "sla", name=CANARY, tier="pro", config=SLA_CONFIG),
    "sla_incident": _incident,
    "autoscaling_profile": lambda stock: stock.insert(
        "autoscaling_profiles",
        "asp",
        name=CANARY,
        scope="tenant",
        min_replicas=1,
        max_replicas=2,
        target_p95_ms=1,
        target_queue_depth=1,
        cooldown_seconds=0,
        step_up=1,
        step_down=1,
    ),
}
_BELONGING = {"group": ("member",), "document": ("document_grant",), "corpus": ("corpus_grant",)}
# What a colleague of the owner may not know of either. All else is the tenant's own.
PERSONAL = frozenset({"document", "run", "audio", "auth_session"})
MADE_UP = {
    "tenant": "made-up", "audio": unguessable_id("audio"), "cursor": "bm90aGluZw",
    **{kind: new_id(prefix) for kind, prefix in (
        ("corpus", "corpus"), ("document", "doc"), ("run", "run"), ("session", "s"), ("user", "usr"), ("key", "key"), ("group", "grp"),
        ("role", "r"), ("role_change", "rch"), ("policy", "pol"), ("document_grant", "perm"), ("corpus_grant", "perm"),
        ("auth_session", "ses"), ("invitation", "inv"), ("provider", "idp"), ("scim_token", "scim"),
        ("price", "price"), ("report", "cbr"), ("sla_policy", "sla"), ("sla_incident", "inc"), ("autoscaling_profile", "asp"),
    )},
}  # fmt: skip
MADE_UP["member"] = MADE_UP["user"]


async def _same(one: str) -> str:
    return one


async def provisioning(api: Api, tenant: str) -> Person:
    """A SCIM client of a tenant."""
    minted = mint("scim", new_id("scim"))
    await rows(
        api, "insert into scim_tokens (tenant_id, id, prefix, hash) values ($1, $2, $3, $4)", tenant, minted.id, minted.prefix,
        keyed_hash(minted.secret, api.servers.settings.auth.auth_key_pepper.get_secret_value()),
    )  # fmt: skip
    client = http(api.base_url, minted.secret)
    api._clients.append(client)
    return Person(client, {"tenant_id": tenant, "user_id": "", "key_id": minted.id, "api_key": minted.secret})
