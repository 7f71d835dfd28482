"""Clients that speak for a person of a tenant, and what tests do with them over and over."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx
from fastapi import FastAPI

from nexusrag.identity.api_keys.provision import create_key
from nexusrag.infra.resources import Resources
from nexusrag.kernel.ids import new_id
from tests.support.installation import Servers, http


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event, with the bytes that it came in."""

    id: str | None
    type: str
    data: dict[str, Any]
    raw: str


def parse_events(text: str) -> list[Event]:
    """A written-out parser, so that ours is not tested by itself."""
    events = []
    for block in text.split("\n\n"):
        if not block:
            continue
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        events.append(Event(fields.get("id"), fields["event"], json.loads(fields["data"]), block + "\n\n"))
    return events


class Person:
    """A client with the key of one person."""

    def __init__(self, client: httpx.AsyncClient, made: dict[str, str]) -> None:
        self.client = client
        self.tenant = made["tenant_id"]
        self.user_id = made["user_id"]
        self.key_id = made["key_id"]
        self.key = made["api_key"]

    @asynccontextmanager
    async def at(self, url: str) -> AsyncIterator["Person"]:
        """The same person with the same key at another process."""
        made = {"tenant_id": self.tenant, "user_id": self.user_id, "key_id": self.key_id, "api_key": self.key}
        async with http(url, self.key) as client:
            yield Person(client, made)

    async def soon(self, path: str, status: int, within_s: float = 5) -> None:
        """Ask until the answer has this status: what changed elsewhere acts soon."""
        async with asyncio.timeout(within_s):
            while (await self.get(path)).status_code != status:
                await asyncio.sleep(0.01)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.post(path, **options)

    async def patch(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.patch(path, **options)

    async def delete(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.delete(path, **options)

    async def corpus(self, visibility: str = "restricted", **fields: Any) -> str:
        """A new corpus; its id."""
        answer = await self.post("/v1/corpora", json={"name": "Corpus", "visibility": visibility, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["data"]["id"])

    async def text(self, corpus: str, text: str, *, wait: bool = True, **fields: Any) -> str:
        """Ingest text; the document's id, once it is searchable."""
        answer = await self.post("/v1/documents/text", json={"corpus_id": corpus, "text": text, **fields})
        assert answer.status_code == 202, answer.text
        document_id = str(answer.json()["data"]["document_id"])
        if wait:
            assert (await self.settled(document_id))["status"] == "succeeded"
        return document_id

    async def upload(self, corpus: str, name: str, content: bytes, media_type: str | None = None, **fields: Any) -> httpx.Response:
        file = (name, content, media_type) if media_type else (name, content)
        return await self.post("/v1/documents", data={"corpus_id": corpus, **fields}, files={"file": file})

    async def settled(self, document_id: str, within_s: float = 30) -> dict[str, Any]:
        """The document once it is neither queued nor processing."""
        end = monotonic() + within_s
        while True:
            answer = await self.get(f"/v1/documents/{document_id}")
            assert answer.status_code == 200, answer.text
            document: dict[str, Any] = answer.json()["data"]
            if document["status"] in ("succeeded", "failed"):
                return document
            assert monotonic() < end, f"still {document['status']}"
            await asyncio.sleep(0.05)

    async def search(self, corpus: str, query: str, **fields: Any) -> list[dict[str, Any]]:
        answer = await self.post(f"/v1/corpora/{corpus}/search", json={"query": query, **fields})
        assert answer.status_code == 200, answer.text
        passages: list[dict[str, Any]] = answer.json()["data"]["passages"]
        return passages

    async def run(self, corpus: str, message: str, *, headers: dict[str, str] | None = None, **fields: Any) -> list[Event]:
        """All events of a run."""
        body = {"session_id": fields.pop("session_id", new_id("s")), "corpus_id": corpus, "message": message, **fields}
        answer = await self.post("/v1/run", json=body, headers=headers or {})
        assert answer.status_code == 200, answer.text
        return parse_events(answer.text)

    @asynccontextmanager
    async def running(self, corpus: str, message: str = "What is it?", **fields: Any) -> AsyncIterator[httpx.Response]:
        """A run whose stream is open."""
        body = {"session_id": fields.pop("session_id", new_id("s")), "corpus_id": corpus, "message": message, **fields}
        async with self.client.stream("POST", "/v1/run", json=body) as answer:
            yield answer


class Api:
    """A served application and the people who use it."""

    def __init__(self, servers: Servers, app: FastAPI, base_url: str) -> None:
        self.servers = servers
        self.app = app
        self.base_url = base_url
        self._clients: list[httpx.AsyncClient] = []

    @property
    def resources(self) -> Resources:
        resources: Resources = self.app.state.resources
        return resources

    async def person(self, role: str = "admin", tenant: str | None = None) -> Person:
        """Someone new, in a new tenant unless one is named."""
        admin = await self.servers.admin()
        try:
            pepper = self.servers.settings.auth.auth_key_pepper.get_secret_value()
            made = await create_key(admin, pepper=pepper, tenant=tenant or new_id("t").replace("_", "-"), role=role, name="Test")
        finally:
            await admin.close()
        client = http(self.base_url, made["api_key"])
        self._clients.append(client)
        return Person(client, made)

    async def operator(self) -> Person:
        """An admin of the home tenant, which operates the platform."""
        await self.person()  # the first tenant made is the home tenant
        admin = await self.servers.admin()
        try:
            home = await admin.fetchval("select id from tenants where is_home")
        finally:
            await admin.close()
        return await self.person(tenant=home)

    def anonymous(self) -> httpx.AsyncClient:
        client = http(self.base_url)
        self._clients.append(client)
        return client

    def client(self, credential: str, below: str = "") -> httpx.AsyncClient:
        """A client with another kind of credential, for what stands below a path."""
        client = http(self.base_url + below, credential)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


def error_of(answer: httpx.Response) -> tuple[str, int]:
    """Code and status of a refused request, after checking the envelope."""
    body = answer.json()
    assert set(body) == {"error", "meta"}, body
    assert body["meta"]["request_id"] == answer.headers["X-Request-Id"]
    return body["error"]["code"], answer.status_code
