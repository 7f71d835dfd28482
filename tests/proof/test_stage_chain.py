"""All combinations of what the stages of a request look at, each sent as a request: the first stage that refuses decides."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from fastapi import FastAPI

from nexusrag.kernel.actions import Action
from nexusrag.kernel.features import Feature
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.tokens import mint
from nexusrag.web.route import GatedRoute
from tests.proof import reference
from tests.proof.plant import Plant
from tests.proof.worlds import BUILT_IN, Tenant
from tests.support.api import Api
from tests.support.behind import rows
from tests.support.installation import Servers, http, serving

pytestmark = pytest.mark.slow
PATH = "/v1/documents/{document_id}"
# What is true of a document, a letter each in its id.
TRAITS = ("denied", "granted", "open", "allowed")
REQUEST = {"time": None, "ip": "127.0.0.1", "method": "GET", "path": "/", "action": "documents.read"}


@pytest.fixture(scope="module", params=[True, False], ids=["default deny", "default allow"])
async def api_of(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[tuple[Api, bool]]:
    """An API in which reading a document belongs to a feature, so that all stages stand before one route."""
    async with serving(servers.with_env(AUTHZ_DEFAULT_DENY=str(request.param).lower())) as (app, url):
        with featured(app):
            yield Api(servers, app, url), request.param


@contextmanager
def featured(app: FastAPI) -> Iterator[None]:
    (route,) = (one for one in app.router.routes if isinstance(one, GatedRoute) and (one.path, one.methods) == (PATH, {"GET"}))
    plain = route.gate
    route.gate, route._stages = replace(plain, feature=Feature.TTS), None
    yield
    route.gate, route._stages = plain, None


def made(default_deny: bool) -> Tenant:
    """A tenant with a document for each combination, and two people of whom one may read documents at all."""
    key = {name: mint("api", new_id("key")) for name in ("usr_able", "usr_unable")}
    documents = {
        _name(traits): {
            "id": _name(traits), "corpus_id": "open" if traits[2] else "closed", "filename": "a.txt", "content_type": "text/plain",
            "source": "text", "status": "succeeded", "size_bytes": 1, "owner": None, "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z", "metadata": {"denied": traits[0], "allowed": traits[3]}, "labels": None,
        }
        for traits in product((True, False), repeat=len(TRAITS))
    }  # fmt: skip
    bare = {"owner": None, "created_at": "2026-01-01T00:00:00Z", "deleted": False, "name": "c"}
    return {
        "id": new_id("t").replace("_", "-"), "default_deny": default_deny, "bypass": False,
        "roles": {**BUILT_IN, "unable": sorted({Action.CORPORA_READ})},
        "users": {
            name: {"role": "reader", "custom_role": None if name == "usr_able" else "unable", "active": True, "email": None} for name in key
        },
        "keys": {
            one.id: {"user": name, "role": "admin", "custom_role": None, "state": "good", "secret": one.secret} for name, one in key.items()
        },
        "groups": {}, "documents": documents, "indexed": set(),
        "corpora": {"open": {**bare, "id": "open", "visibility": "tenant"}, "closed": {**bare, "id": "closed", "visibility": "restricted"}},
        "grants": [
            {"on": ("document", name), "to": ("user", user), "permission": "read", "expires_in": None}
            for name in documents if "granted" in name for user in key
        ],
        "policies": [_policy("deny", "denied"), _policy("allow", "allowed")],
    }  # fmt: skip


def _name(traits: tuple[bool, ...]) -> str:
    return "-".join(["d", *(trait for trait, holds in zip(TRAITS, traits, strict=True) if holds)])


def _policy(effect: str, trait: str) -> dict[str, Any]:
    condition = {"eq": [{"var": f"resource.metadata.{trait}"}, True]}
    return {
        "id": new_id("pol"), "effect": effect, "resource_type": "document", "action": "read", "condition": condition, "priority": 1,
        "enabled": True, "unreadable": False, "platform": False,
    }  # fmt: skip


@pytest.mark.parametrize("entitled", [True, False], ids=["with the feature", "without it"])
async def test_every_combination_is_decided_as_in_the_reference(api_of: tuple[Api, bool], entitled: bool) -> None:
    api, default_deny = api_of
    one = made(default_deny)
    admin = await api.servers.admin()
    try:
        await Plant(admin, api.servers.settings.auth.auth_key_pepper.get_secret_value()).put([one])
    finally:
        await admin.close()
    if not entitled:
        await rows(
            api, "insert into feature_overrides (tenant_id, feature_key, enabled) values ($1, $2, false)", one["id"], Feature.TTS.value
        )
    asked = 0
    for key_id, key in one["keys"].items():
        async with http(api.base_url, key["secret"]) as client:
            for document in one["documents"]:
                answer = await client.get(PATH.format(document_id=document))
                due = reference.told(one, ("api_key", key_id), "read", document, REQUEST)
                if not entitled and due != "AUTH_FORBIDDEN":
                    due = "FEATURE_NOT_ENABLED"
                assert (answer.json()["error"]["code"] if answer.is_error else "") == due, (key["user"], document)
                asked += 1
    assert asked == 2 ** (len(TRAITS) + 1)
