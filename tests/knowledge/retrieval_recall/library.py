"""Corpora written straight into the index, with vectors and grants as a test wants them, and searches of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from nexusrag.access.policies.facade import Caller, unbound
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Role
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.principal import Principal, of_role
from nexusrag.knowledge.corpora.repository import claim_space
from nexusrag.knowledge.documents.repository import finish
from nexusrag.knowledge.index.facade import IndexedChunk, NewVersion, insert, retire_others
from nexusrag.knowledge.retrieval import repository, service
from nexusrag.knowledge.retrieval.service import Found, Where
from nexusrag.knowledge.retrieval.spaces import Spaces
from nexusrag.providers.embeddings.port import Embedder, EmbeddingModel
from nexusrag.settings import Settings
from tests.support.installation import Servers

Vectors = NDArray[np.float32]

_DOCUMENT = (
    "insert into documents (tenant_id, id, corpus_id, corpus_key, filename, content_type, source, ingest_source, status, size_bytes, "
    "sha256, blob_id, metadata) "
    "values ($1, $2, $3, $4, $2 || '.txt', 'text/plain', 'text', 'text', 'processing', 1, '', '', $5::text::jsonb)"
)
_GRANT = (
    "insert into document_permissions (tenant_id, id, document_id, principal_type, principal_id, permission, expires_at) "
    "values ($1, $2, $3, $4, $5, $6, now() + make_interval(hours => $7))"
)


@dataclass(frozen=True, slots=True)
class Grant:
    """`hours`: until it expires; negative for one that has."""

    kind: str
    who: str
    permission: str
    hours: int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A document to be: a text and a vector per chunk."""

    id: str
    texts: Sequence[str]
    vectors: Vectors
    labels: Mapping[str, Any] = field(default_factory=dict)
    grants: Sequence[Grant] = ()


@dataclass(frozen=True, slots=True)
class Shelf:
    """A corpus."""

    tenant: str
    corpus: str
    key: int
    space: int


class StandIn:
    """An `Embedder` of which searches ask the model alone."""

    def __init__(self, name: str, dimensions: int) -> None:
        self.model = EmbeddingModel(name, dimensions, 256)


class Library:
    """One embedding model, the tenants and corpora that use it, and searches with chosen limits."""

    def __init__(self, servers: Servers, database: Database, model: str, dimensions: int) -> None:
        self.servers = servers
        self.database = database
        self.model = model
        self.dimensions = dimensions

    async def tenant(self) -> str:
        tenant = new_id("t").replace("_", "-")
        admin = await self.servers.admin()
        try:
            await admin.execute("select tenant_ensure($1, $1)", tenant)
        finally:
            await admin.close()
        return tenant

    async def shelf(self, tenant: str, visibility: str = "restricted") -> Shelf:
        """A new corpus of `tenant`, claimed for this library's model."""
        corpus = new_id("corpus")
        async with self.database.work(tenant) as work:
            key = await work.raw.fetchval(
                "insert into corpora (tenant_id, id, name, visibility, provider_config) values ($1, $2, $2, $3, '{}') returning key",
                tenant,
                corpus,
                visibility,
            )
            space, _ = await claim_space(work, key, self.model, self.dimensions)
        return Shelf(tenant, corpus, key, space)

    async def put(self, shelf: Shelf, items: Sequence[Item]) -> None:
        """Write new documents, each with a live version."""
        async with self.database.work(shelf.tenant) as work:
            for item in items:
                labels = orjson.dumps(dict(item.labels)).decode()
                await work.raw.execute(_DOCUMENT, shelf.tenant, item.id, shelf.corpus, shelf.key, labels)
                for grant in item.grants:
                    await work.raw.execute(
                        _GRANT, shelf.tenant, new_id("perm"), item.id, grant.kind, grant.who, grant.permission, grant.hours
                    )
        await self.index(shelf, items)

    async def index(self, shelf: Shelf, items: Sequence[Item]) -> None:
        """Index documents, in place of their former versions."""
        async with self.database.work(shelf.tenant) as work:
            for item in items:
                version = await insert(work, new_version(shelf, item))
                await finish(work, item.id, version_id=version, num_chunks=len(item.texts), progress={}, reindexed=False)
                await retire_others(work, item.id, version)

    async def search(
        self,
        shelf: Shelf,
        principal: Principal,
        question: str,
        vector: Vectors,
        top_k: int = 10,
        *,
        mode: str = "hybrid",
        filters: Mapping[str, Any] | None = None,
        document_ids: Sequence[str] | None = None,
        **limits: int,
    ) -> Found:
        """`limits`: settings of retrieval, such as RETRIEVAL_EXACT_LIMIT=0."""
        settings = self.servers.with_env(**{name: str(value) for name, value in limits.items()})
        resources = Resources()
        resources.put(Settings, settings)
        resources.put(Spaces, Spaces())
        resources.put(Embedder, StandIn(self.model, self.dimensions))
        where = Where(
            corpus_key=shelf.key,
            space_id=shelf.space,
            filters=dict(filters or {}),
            document_ids=None if document_ids is None else list(document_ids),
        )
        async with self.database.work(principal.tenant_id, options=repository.options(settings)) as work:
            return await service.search(resources, work, bound(principal), where, question, vector, top_k, mode=mode)


def new_version(shelf: Shelf, item: Item) -> NewVersion:
    chunks = [
        IndexedChunk(ord, text, text, (), 0, len(text), None, None, f"{item.id}/{ord}".encode()) for ord, text in enumerate(item.texts)
    ]
    return NewVersion(
        document_id=item.id,
        corpus_key=shelf.key,
        space_id=shelf.space,
        sha256="",
        chunk_size_chars=1200,
        chunk_overlap_chars=0,
        pages=None,
        chars=sum(map(len, item.texts)),
        chunks=chunks,
        vectors=item.vectors,
    )


def owner(user: str) -> Grant:
    return Grant("user", user, "owner")


def caller(tenant: str, user: str, role: Role = Role.READER, key: str = "key") -> Principal:
    return of_role(tenant, user, role, key)


def bound(principal: Principal) -> Caller:
    """The caller under the rules of a usual installation, without policies."""
    return replace(unbound(principal), default_deny=True, bypass=False)


def unit(random: np.random.Generator, count: int, dimensions: int) -> Vectors:
    """Random directions."""
    drawn = random.standard_normal((count, dimensions)).astype(np.float32)
    normed: Vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return normed
