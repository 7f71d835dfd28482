"""Writes tenants into the database as they stand in their dictionaries, many at once, and again after they were altered."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import numpy as np

from nexusrag.infra.database import halfvec
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.tokens import keyed_hash
from tests.proof.worlds import Tenant

WORD = "bakard"  # in every document, so that a search for it may find each
_TERM = 1 << 16 | 1  # found once, in a text of one term


class Plant:
    """`space` and `dimensions` are of the embedding space that the corpora use, if any; `connection` is an administrator's."""

    def __init__(self, connection: "asyncpg.Connection[Any]", pepper: str, space: int | None = None, dimensions: int = 1) -> None:
        self._connection = connection
        self._pepper = pepper
        self._space = space
        self._rng = np.random.default_rng(dimensions)
        self._dimensions = dimensions

    async def put(self, tenants: Sequence[Tenant]) -> None:
        """Everything of new tenants."""
        async with self._connection.transaction():
            await self._copy("tenants", ("id", "name"), [(tenant["id"], "World") for tenant in tenants])
            await self._people(tenants)
            await self._documents(tenants)
            await self._rules(tenants)

    async def put_again(self, tenants: Sequence[Tenant]) -> None:
        """What `worlds.alter` may have changed."""
        ids = [tenant["id"] for tenant in tenants]
        async with self._connection.transaction():
            for table in ("group_members", "document_permissions", "corpus_permissions", "policies"):
                await self._connection.execute(f"delete from {table} where tenant_id = any($1)", ids)
            await self.clear()
            for tenant in tenants:
                await self._connection.executemany(
                    "update users set role = $3, status = $4 where tenant_id = $1 and id = $2",
                    [(tenant["id"], name, user["role"], _status(user)) for name, user in tenant["users"].items()],
                )
                await self._connection.executemany(
                    "update corpora set visibility = $3, deleted_at = $4 where tenant_id = $1 and id = $2",
                    [(tenant["id"], name, corpus["visibility"], _deleted(corpus)) for name, corpus in tenant["corpora"].items()],
                )
                await self._connection.executemany(
                    "update documents set metadata = $3::text::jsonb where tenant_id = $1 and id = $2",
                    [(tenant["id"], name, json.dumps(document["metadata"])) for name, document in tenant["documents"].items()],
                )
            await self._rules(tenants)

    async def clear(self) -> None:
        """The platform's policies bind whoever comes later, too."""
        await self._connection.execute("delete from policies where tenant_id is null")

    async def _people(self, tenants: Sequence[Tenant]) -> None:
        await self._copy(
            "custom_roles",
            ("tenant_id", "id", "name", "base", "actions"),
            [
                (tenant["id"], name, name, "admin", actions)
                for tenant in tenants
                for name, actions in tenant["roles"].items()
                if name not in ("reader", "editor", "admin")
            ],
        )
        await self._copy(
            "users",
            ("tenant_id", "id", "external_subject", "email", "role", "custom_role_id", "status"),
            [
                (tenant["id"], name, name, user["email"], user["role"], user["custom_role"], _status(user))
                for tenant in tenants
                for name, user in tenant["users"].items()
            ],
        )
        now = datetime.now(UTC)
        past = {state: now - timedelta(days=1) for state in ("revoked", "expired")}
        await self._copy(
            "api_keys",
            ("tenant_id", "id", "user_id", "role", "custom_role_id", "prefix", "hash", "active", "revoked_at", "expires_at"),
            [
                (
                    tenant["id"], name, key["user"], key["role"], key["custom_role"], name, keyed_hash(key["secret"], self._pepper),
                    key["state"] != "inactive", past["revoked"] if key["state"] == "revoked" else None,
                    past["expired"] if key["state"] == "expired" else None,
                )
                for tenant in tenants
                for name, key in tenant["keys"].items()
            ],
        )  # fmt: skip
        await self._copy(
            "groups",
            ("tenant_id", "id", "display_name", "role"),
            [(tenant["id"], name, group["name"], group["role"]) for tenant in tenants for name, group in tenant["groups"].items()],
        )

    async def _documents(self, tenants: Sequence[Tenant]) -> None:
        corpora = [(tenant["id"], name, corpus) for tenant in tenants for name, corpus in tenant["corpora"].items()]
        keys = await self._ids("corpora", "key", len(corpora))
        await self._copy(
            "corpora",
            ("tenant_id", "id", "key", "name", "visibility", "provider_config", "space_id", "created_by", "created_at", "deleted_at"),
            [
                (tenant, name, key, corpus["name"], corpus["visibility"], "{}", self._space, corpus["owner"], _moment(corpus["created_at"]),
                 _deleted(corpus))
                for key, (tenant, name, corpus) in zip(keys, corpora, strict=True)
            ],
        )  # fmt: skip
        key_of = {(tenant, name): key for key, (tenant, name, _) in zip(keys, corpora, strict=True)}
        documents = [(tenant, name, document) for tenant in tenants for name, document in tenant["documents"].items()]
        versions = await self._ids("document_versions", "id", len(documents))
        chunks = await self._ids("chunks", "id", len(documents))
        rows = [
            (tenant["id"], name, document, key_of[tenant["id"], document["corpus_id"]], version, chunk, name in tenant["indexed"])
            for (tenant, name, document), version, chunk in zip(documents, versions, chunks, strict=True)
        ]
        await self._copy(
            "documents",
            ("tenant_id", "id", "corpus_id", "corpus_key", "filename", "content_type", "source", "ingest_source", "status", "metadata",
             "size_bytes", "sha256", "blob_id", "live_version_id", "created_by", "created_at", "updated_at"),
            [
                (tenant, name, one["corpus_id"], key, one["filename"], one["content_type"], one["source"], one["source"], one["status"],
                 json.dumps(one["metadata"]), one["size_bytes"], "", "blob_none", version if indexed else None, one["owner"],
                 # The part of a second that no condition sees.
                 _moment(one["created_at"]) + timedelta(microseconds=999_999), _moment(one["updated_at"]))
                for tenant, name, one, key, version, _, indexed in rows
            ],
        )  # fmt: skip
        await self._index([(tenant, name, key, version, chunk) for tenant, name, _, key, version, chunk, indexed in rows if indexed])

    async def _index(self, rows: Sequence[tuple[str, str, int, int, int]]) -> None:
        await self._copy(
            "document_versions",
            ("tenant_id", "id", "document_id", "corpus_key", "number", "state", "sha256", "chunk_size_chars", "chunk_overlap_chars",
             "space_id", "num_chunks", "num_terms"),
            [(tenant, version, name, key, 1, "live", "", 1200, 0, self._space, 1, 1) for tenant, name, key, version, _ in rows],
        )  # fmt: skip
        await self._copy(
            "chunks",
            ("tenant_id", "id", "version_id", "ord", "text", "start_char", "end_char", "hash"),
            [(tenant, chunk, version, 0, WORD, 0, len(WORD), b"") for tenant, _, _, version, chunk in rows],
        )
        vectors = self._rng.standard_normal((len(rows), self._dimensions)).astype(np.float32)
        await self._copy(
            "embeddings",
            ("tenant_id", "space_id", "version_id", "chunk_id", "v"),
            [
                (tenant, self._space, version, chunk, halfvec(vector))
                for (tenant, _, _, version, chunk), vector in zip(rows, vectors, strict=True)
            ],
        )
        await self._copy(
            "postings",
            ("tenant_id", "corpus_key", "version_id", "block", "term", "entries"),
            [(tenant, key, version, 0, WORD, [chunk << 24 | _TERM]) for tenant, _, key, version, chunk in rows],
        )

    async def _rules(self, tenants: Sequence[Tenant]) -> None:
        await self._copy(
            "group_members",
            ("tenant_id", "group_id", "user_id"),
            [(tenant["id"], name, user) for tenant in tenants for name, group in tenant["groups"].items() for user in group["members"]],
        )
        now = await self._connection.fetchval("select clock_timestamp()")
        for kind in ("document", "corpus"):
            await self._copy(
                f"{kind}_permissions",
                ("tenant_id", "id", f"{kind}_id", "principal_type", "principal_id", "permission", "expires_at"),
                [
                    (tenant["id"], new_id("perm"), grant["on"][1], *grant["to"], grant["permission"],
                     None if grant["expires_in"] is None else now + timedelta(seconds=grant["expires_in"]))
                    for tenant in tenants
                    for grant in tenant["grants"]
                    if grant["on"][0] == kind
                ],
            )  # fmt: skip
        await self._copy(
            "policies",
            ("id", "tenant_id", "name", "effect", "resource_type", "action", "condition", "priority", "enabled"),
            [
                (one["id"], None if one["platform"] else tenant["id"], "p", one["effect"], one["resource_type"], one["action"],
                 None if one["condition"] is None else json.dumps(one["condition"]), one["priority"], one["enabled"])
                for tenant in tenants
                for one in tenant["policies"]
            ],
        )  # fmt: skip

    async def _copy(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            await self._connection.copy_records_to_table(table, columns=columns, records=rows)

    async def _ids(self, table: str, column: str, count: int) -> list[int]:
        rows = await self._connection.fetch(
            "select nextval(pg_get_serial_sequence($1, $2)) as id from generate_series(1, $3)", table, column, count
        )
        return [row["id"] for row in rows]


async def administrator(connection: "asyncpg.Connection[Any]") -> "asyncpg.Connection[Any]":
    """The same connection, which takes vectors in their binary form."""
    await connection.set_type_codec("halfvec", schema="public", encoder=bytes, decoder=bytes, format="binary")
    return connection


def _status(user: dict[str, Any]) -> str:
    return "active" if user["active"] else "disabled"


def _deleted(corpus: dict[str, Any]) -> datetime | None:
    return datetime.now(UTC) if corpus["deleted"] else None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
