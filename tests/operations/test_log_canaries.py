"""The logs of a real process: JSON line by line, and no secret, question or document text in any of them."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.api import Api, Person
from tests.support.installation import ENV, Servers, http
from tests.web.wire import send_raw

pytestmark = pytest.mark.slow
CANARIES = {
    "document": "Xochimilco-canary-document", "question": "Xochimilco-canary-question", "name": "Xochimilco-canary-name",
    "query": "Xochimilco-canary-query", "header": "Xochimilco-canary-header", "broken": "Xochimilco-canary-broken",
    "password": "Xochimilco-canary-password",
}  # fmt: skip


@dataclass
class Running:
    api: Api
    log: Path


@pytest.fixture
async def process(servers: Servers, tmp_path: Path) -> AsyncIterator[Running]:
    """`nexusrag api` as a process of its own, at the most talkative level, ingesting inside the request."""
    stores = servers.settings.stores
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
        **ENV,
        "DATABASE_URL": stores.database_url.get_secret_value(),
        "REDIS_URL": stores.redis_url.get_secret_value(),
        "UI_CURSOR_SECRET": servers.settings.web.ui_cursor_secret.get_secret_value(),
        "AUTH_KEY_PEPPER": servers.settings.auth.auth_key_pepper.get_secret_value(),
        "AUTH_JWT_SECRET": servers.settings.identity.auth_jwt_secret.get_secret_value(),
        "CRYPTO_LOCAL_MASTER_KEY": servers.settings.storage.crypto_local_master_key.get_secret_value(),
        "NEXUSRAG_HOME": str(servers.home), "API_PORT": str(port), "LOG_LEVEL": "DEBUG", "INGEST_EXECUTION_MODE": "inline",
    }  # fmt: skip
    log = tmp_path / "api.log"
    with log.open("wb") as stream:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "from nexusrag.cli.main import main; main()", "api", env=env, stdout=stream, stderr=stream
        )
    api = Api(servers, None, f"http://127.0.0.1:{port}")  # type: ignore[arg-type]  # the application is in the other process
    try:
        async with asyncio.timeout(60), http(api.base_url) as client:
            while child.returncode is None:
                try:
                    if (await client.get("/v1/health")).status_code == 200:
                        break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        assert child.returncode is None, log.read_text()
        yield Running(api, log)
    finally:
        await api.close()
        if child.returncode is None:
            child.terminate()
        await asyncio.wait_for(child.wait(), 30)


async def spray(person: Person) -> None:
    """Every canary through whatever takes text, well and badly."""
    corpus = await person.corpus(name=CANARIES["name"])
    await person.text(corpus, f"The {CANARIES['document']} lives in the lake.", metadata_json={"a": CANARIES["document"]})
    await person.upload(corpus, f"{CANARIES['name']}.json", f'{{"text": "{CANARIES["broken"]}'.encode())
    await person.search(corpus, CANARIES["question"])
    await person.run(corpus, CANARIES["question"], audio=True)
    await person.get("/v1/ui/documents", params={"q": CANARIES["query"], "sort": CANARIES["query"]})
    await person.get(f"/v1/documents/{CANARIES['query']}%00")
    await person.get(f"/v1/{CANARIES['query']}")
    for path in ("/v1/run", "/v1/documents/text", "/v1/corpora", f"/v1/corpora/{corpus}/search"):
        await person.post(path, content=f'{{"message": "{CANARIES["broken"]}"'.encode())
        await person.post(path, json={"corpus_id": corpus, CANARIES["broken"]: CANARIES["broken"]})
    await person.post("/v1/documents", content=CANARIES["broken"].encode(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    for path in ("register", "login", "refresh", "password"):
        body = {"email": "ada@example.org", "password": CANARIES["password"], "refresh_token": CANARIES["password"]}
        fields = {"register": ("email", "password"), "login": ("email", "password"), "refresh": ("refresh_token",)}.get(path, ())
        await person.post(f"/v1/auth/{path}", json={name: body[name] for name in fields})
        await person.post(f"/v1/auth/{path}", json={**body, "current_password": [CANARIES["password"]]})
    for header in ("X-Request-Id", "Idempotency-Key", "Last-Event-ID", "User-Agent", "Cookie", "X-Forwarded-For"):
        await person.post("/v1/corpora", json={"name": "x"}, headers={header: f"{CANARIES['header']} {person.key}"})
    async with http(str(person.client.base_url), person.key + "x") as wrong:
        await wrong.get("/v1/corpora")


async def test_no_canary_reaches_the_logs(process: Running) -> None:
    person = await process.api.person()
    await spray(person)
    # A fault of ours as well: its trace may show the statement's frames, not the statement's values.
    connection = await process.api.servers.admin()
    await connection.execute("alter table corpora add constraint planted check (name not like 'Xochimilco-canary-broken%') not valid")
    try:
        failed = await person.patch(f"/v1/corpora/{await person.corpus()}", json={"name": CANARIES["broken"]})
    finally:
        await connection.execute("alter table corpora drop constraint planted")
        await connection.close()
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert "Xochimilco" not in failed.text
    text = process.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert any(line.get("request_id") == failed.headers["X-Request-Id"] and "trace" in line for line in lines)
    assert all("event" in line and "level" in line for line in lines)
    settings = process.api.servers.settings
    secrets = [
        person.key, person.key.rsplit("_", 1)[1], settings.auth.auth_key_pepper.get_secret_value(),
        settings.web.ui_cursor_secret.get_secret_value(),
        settings.storage.crypto_local_master_key.get_secret_value(), settings.stores.database_url.get_secret_value(),
    ]  # fmt: skip
    for canary in (*CANARIES.values(), *secrets):
        assert canary not in text, canary[:20]


async def test_requests_that_nobody_can_read_do_not_fill_the_log(process: Running) -> None:
    for _ in range(20):
        assert (await send_raw(process.api.base_url, b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n")).status == 400
    assert "uvicorn.error" not in process.log.read_text()
