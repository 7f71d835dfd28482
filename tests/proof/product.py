"""The product's answers about whole sets of documents: each by the very functions that a request runs, for one caller after the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from sqlalchemy import select

from nexusrag.access.policies import stage as policies
from nexusrag.access.policies.facade import Attributes, Caller, Policies, describe
from nexusrag.access.roles import stage as roles
from nexusrag.governance.authorization.service import explain
from nexusrag.identity.credentials.facade import of_credential, person
from nexusrag.infra.database import Database, Work
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Action, Permission, Resource, Role
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.principal import Credential, Principal, of_role
from nexusrag.kernel.traffic import RouteClass
from nexusrag.knowledge import visibility
from nexusrag.knowledge.documents import gates, repository
from nexusrag.knowledge.documents.models import Document
from nexusrag.knowledge.retrieval import gates as retrieval_gates
from nexusrag.knowledge.retrieval import repository as retrieval
from nexusrag.knowledge.retrieval import service as searching
from nexusrag.providers.embeddings.port import Embedder, EmbeddingModel
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate, gate
from tests.proof.plant import WORD
from tests.proof.worlds import Tenant

# Writing has no route of its own: it is asked of a document that an upload would replace.
WRITE = gate(Action.DOCUMENTS_CREATE, Resource.DOCUMENT, permission=Permission.WRITE)
GATES: dict[str, Gate] = {"read": gates.READ, "write": WRITE, "delete": gates.DELETE, "reindex": gates.REINDEX}
MOST = 1000


class StandIn:
    """An `Embedder` of which searches ask the model alone."""

    def __init__(self, name: str, dimensions: int) -> None:
        self.model = EmbeddingModel(name, dimensions, 256)


def with_model(resources: Resources, name: str, dimensions: int) -> Resources:
    """The same resources with another embedding model."""
    own = Resources()
    own._held.update(resources._held)
    own.put(Embedder, StandIn(name, dimensions))
    return own


@dataclass(frozen=True, slots=True)
class Product:
    """One served application, asked from inside."""

    app: FastAPI
    resources: Resources

    @asynccontextmanager
    async def of(self, tenant: Tenant) -> AsyncIterator["Asking"]:
        """One transaction in a tenant, in which everybody asks."""
        settings = self.resources.get(Settings)
        async with self.resources.get(Database).work(tenant["id"], options=retrieval.options(settings)) as work:
            yield Asking(self, tenant, work)


@dataclass(frozen=True, slots=True)
class Asking:
    product: Product
    tenant: Tenant
    work: Work

    async def principal(self, caller: tuple[str, str]) -> Principal | None:
        kind, one = caller
        auth = self.product.resources.get(Settings).auth
        if kind == "user":
            return await person(self.work, one, auth)
        return await of_credential(self.work, Credential.API_KEY, one, auth)

    async def caller(self, principal: Principal, request: dict[str, Any]) -> Caller:
        """As the stage makes it, under the settings and the circumstances of this world."""
        return Caller(
            principal=principal,
            attributes=Attributes(describe(principal), request),
            policies=await self.product.resources.get(Policies).of(self.tenant["id"]),
            default_deny=self.tenant["default_deny"],
            bypass=self.tenant["bypass"],
        )

    def call(self, caller: Caller, demanded: Gate) -> CallContext:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "client": None}
        call = CallContext(Request(scope), demanded, "proof", self.product.resources, self.product.app.state.loaders, RouteClass.READ)
        call.principal, call.caller, call._work = caller.principal, caller, self.work
        return call

    async def checks(self, caller: Caller, verb: str) -> dict[str, str]:
        """The code that the caller gets for each document that is there at all; none for what is done."""
        call = self.call(caller, GATES[verb])
        refusal = await _code(roles.check_role, call)
        if refusal:
            return dict.fromkeys(self.tenant["documents"], refusal)
        statement = repository._loaded(Permission(verb)).params(repository.caller(caller.principal))
        said = dict.fromkeys(self.tenant["documents"], "NOT_FOUND")
        for row in await self.work.session.execute(statement.where(Document.tenant_id == call.tenant_id)):
            call.loaded, call.rights = row[0], visibility.Held(row.read, row.needed, row.corpus_is_open)
            assert row[0].tenant_id == self.tenant["id"]
            said[row[0].id] = await _code(visibility.check_document, call)
            if not said[row[0].id] and verb != "write":
                said[row[0].id] = await _code(policies.check, call)
        return said

    async def lists(self, caller: Caller, verb: str) -> set[tuple[str, str]]:
        """Tenant and id of what a listing has, or for what is not listed what the rule's condition is true of."""
        call = self.call(caller, gates.LIST if verb == "read" else GATES[verb])
        if await _code(roles.check_role, call):
            return set()
        if verb == "read":
            rows: Any = await repository.newest_first(call, None, None, MOST)
            return {(row["tenant_id"], row["id"]) for row in rows}
        rule = visibility.rule(caller, Permission(verb))
        statement = select(Document.tenant_id, Document.id).where(Document.tenant_id == call.tenant_id, rule.condition)
        return {(row[0], row[1]) for row in await self.work.connection.execute(statement.params(dict(rule.values)))}

    async def counts(self, caller: Caller) -> dict[str, int]:
        call = self.call(caller, gates.LIST_FOR_CONSOLE)
        return {} if await _code(roles.check_role, call) else await repository.count_by_status(call)

    async def searches(self, caller: Caller, corpus_id: str, *, exact: bool = True) -> set[str]:
        """Documents that a search of the corpus finds."""
        call = self.call(caller, retrieval_gates.SEARCH)
        if await _code(roles.check_role, call):
            return set()
        try:
            corpus = call.loaded = await call.loaders[Resource.CORPUS](call, corpus_id)
            await policies.check(call)
        except ApiError:
            return set()
        resources = self.product.resources
        if not exact:
            resources = with_settings(resources, retrieval_exact_limit=0)
        where = searching.where_of(caller.principal, corpus, None)
        vector = np.ones(resources.get(Embedder).model.dimensions, np.float32)
        found = await searching.search(resources, self.work, caller, where, WORD, vector, MOST)
        return {passage.document_id for passage in found.passages}

    async def explains(self, caller: tuple[str, str], verb: str, document_id: str, request: dict[str, Any]) -> str:
        """What decides, as an admin is told."""
        admin = await self.caller(of_role(self.tenant["id"], "usr_x", Role.ADMIN, "key_x"), request)
        try:
            told = await explain(self.call(admin, WRITE), ":".join(caller), f"document:{document_id}", verb)
        except ApiError as error:
            return error.code.value
        return told.decided_by


def with_settings(resources: Resources, **changes: int) -> Resources:
    own = Resources()
    own._held.update(resources._held)
    settings = resources.get(Settings)
    own.put(Settings, settings.model_copy(update={"retrieval": settings.retrieval.model_copy(update=changes)}))
    return own


async def _code(stage: Any, call: CallContext) -> str:
    """The code with which a stage refuses, if it does."""
    try:
        await stage(call)
    except ApiError as error:
        return error.code.value
    return ""
