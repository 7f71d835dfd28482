"""The deprecated aliases: bare bodies, `detail` errors, three headers on whatever they answer."""

import httpx
import pytest

from tests.support.api import Api, parse_events
from tests.support.installation import Servers, serving

HEADERS = {"Deprecation": "true", "Sunset": "Sun, 10 May 2026 00:00:00 GMT", "Link": '</v1/docs>; rel="successor-version"'}


def marked(answer: httpx.Response) -> bool:
    return {name: answer.headers.get(name) for name in HEADERS} == HEADERS


async def test_an_alias_answers_the_bare_body_with_its_headers(api: Api) -> None:
    admin = await api.person()
    corpus = await admin.corpus()
    document = await admin.text(corpus, "Bare bodies on old paths.")
    for path in ("/corpora", f"/corpora/{corpus}", "/documents", f"/documents/{document}", "/health", "/healthz"):
        old, new = await admin.get(path), await admin.get(f"/v1{path}")
        assert marked(old), path
        assert not any(name in new.headers for name in HEADERS)
        assert old.json() == new.json()["data"]
        assert old.headers["X-Request-Id"]
    assert set((await admin.get("/ops/health")).json()) == set((await admin.get("/v1/ops/health")).json()["data"])


async def test_an_alias_fails_with_detail_and_its_headers(api: Api) -> None:
    admin, reader = await api.person(), await api.person("reader")
    for answer, status, code in (
        (await api.anonymous().get("/documents"), 401, "AUTH_UNAUTHORIZED"),
        (await reader.post("/documents/text", content=b"nonsense"), 403, "AUTH_FORBIDDEN"),
        (await admin.get("/documents/nope"), 404, "NOT_FOUND"),
        (await admin.post("/documents/text", json={"corpus_id": "nope", "text": "x"}), 404, "NOT_FOUND"),
        (await admin.post("/run", json={}), 422, "VALIDATION_ERROR"),
        (await admin.get("/documents", params={"limit": "abc"}), 422, "VALIDATION_ERROR"),
    ):
        assert answer.status_code == status
        assert set(answer.json()) == {"detail"}
        assert answer.json()["detail"]["code"] == code
        assert marked(answer)


async def test_writes_streams_and_empty_answers_work_on_aliases(api: Api) -> None:
    admin = await api.person()
    corpus = await admin.corpus()
    accepted = await admin.post("/documents/text", json={"corpus_id": corpus, "text": "The sunset is announced.", "document_id": "old"})
    assert (accepted.status_code, marked(accepted), accepted.json()["document_id"]) == (202, True, "old")
    await admin.settled("old")
    run = await admin.post("/run", json={"session_id": f"old-{admin.tenant}", "corpus_id": corpus, "message": "What is announced?"})
    assert marked(run)
    assert parse_events(run.text)[-1].type == "done"
    renamed = await admin.patch(f"/corpora/{corpus}", json={"name": "New"})
    assert (renamed.json()["name"], marked(renamed)) == ("New", True)
    gone = await admin.delete("/documents/old")
    assert (gone.status_code, gone.content, marked(gone)) == (204, b"", True)


@pytest.mark.parametrize("path", ["/ui/documents", "/runs/x", "/metrics", "/openapi.json", "/docs"])
async def test_what_never_was_unversioned_has_no_alias(api: Api, path: str) -> None:
    assert (await (await api.person()).get(path)).status_code == 404


@pytest.mark.slow
async def test_aliases_can_be_switched_off(servers: Servers) -> None:
    async with serving(servers.with_env(LEGACY_ROUTES_ENABLED="false")) as (app, url):
        api = Api(servers, app, url)
        admin = await api.person()
        for path in ("/documents", "/corpora", "/health", "/run"):
            assert (await admin.get(path)).status_code == 404
        assert (await admin.get("/v1/documents")).status_code == 200
        assert "/documents" not in (await admin.get("/v1/openapi.json")).json()["paths"]
        await api.close()
