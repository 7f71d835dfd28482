"""Every route that takes an id, probed with other people's real ids: the answer is, byte for byte, that to an id that was made up.

The probes run once with both walls standing, and once with each of them taken away.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from sqlalchemy import event

from nexusrag.infra.database import Database
from nexusrag.infra.urls import connect_arguments
from nexusrag.kernel.ids import new_id
from tests.contract.table import Known, known_routes
from tests.support.api import Api, Person, parse_events
from tests.support.behind import rows
from tests.support.installation import Servers, serving, working

pytestmark = pytest.mark.slow
CANARY = "Zanzibar"

# What is sent where; `{corpus}`, `{document}`, `{run}` and `{audio}` stand for the ids under test.
# A route that takes an id and is missing here fails the test.
JSON_BODIES: dict[str, dict[str, Any]] = {
    "POST /v1/documents/text": {"corpus_id": "{corpus}", "text": "Planted.", "document_id": "planted"},
    "POST /v1/run": {"session_id": "{session}", "corpus_id": "{corpus}", "message": "Where is it?"},
    "POST /v1/ui/actions/reindex-document": {"document_id": "{document}"},
    "PATCH /v1/corpora/{corpus_id}": {"name": "Taken over", "visibility": "tenant"},
    "POST /v1/corpora/{corpus_id}/search": {"query": "where is it?"},
    "POST /v1/documents/{document_id}/reindex": {"chunk_size_chars": 400},
    "POST /v1/runs/{run_id}/cancel": {},
    "DELETE /v1/corpora/{corpus_id}": {},
    "DELETE /v1/documents/{document_id}": {},
    "PATCH /v1/admin/api-keys/{key_id}": {"revoke": True},
    "POST /v1/admin/api-keys/{key_id}/rotate": {"grace_hours": 0},
    "POST /v1/self-serve/api-keys": {"role": "reader", "user_id": "{user}"},
    "POST /v1/self-serve/api-keys/{key_id}/revoke": {},
    "PATCH /v1/admin/identity/users/{user_id}/role": {"role": "reader"},
    "POST /v1/admin/identity/users/{user_id}/enable": {},
    "POST /v1/admin/identity/users/{user_id}/disable": {},
    "POST /v1/admin/identity/role-changes/{role_change_id}/approve": {},
    "POST /v1/admin/identity/role-changes/{role_change_id}/reject": {},
    "PATCH /v1/admin/identity/groups/{group_id}": {"display_name": "Taken over", "role": "admin"},
    "DELETE /v1/admin/identity/groups/{group_id}": {},
    "POST /v1/admin/identity/groups/{group_id}/members": {"user_ids": ["usr_1"]},
    "DELETE /v1/admin/identity/groups/{group_id}/members/{user_id}": {},
    "PATCH /v1/admin/authz/roles/{role_id}": {"actions": ["corpora.read"]},
    "DELETE /v1/admin/authz/roles/{role_id}": {},
    "DELETE /v1/auth/sessions/{auth_session_id}": {},
    "POST /v1/admin/identity/invitations/{invitation_id}/revoke": {},
    "PATCH /v1/admin/plans/{tenant_id}": {"plan_id": "free"},
    "PATCH /v1/admin/plans/{tenant_id}/overrides": {"feature_key": "feature.tts", "enabled": False},
}
FORMS = {"POST /v1/documents": {"corpus_id": "{corpus}", "document_id": "planted"}}
QUERIES = {"GET /v1/documents": {"corpus_id": "{corpus}"}, "GET /v1/ui/documents": {"corpus_id": "{corpus}", "q": "{document}"}}


@dataclass(frozen=True, slots=True)
class Ids:
    corpus: str
    document: str
    run: str
    audio: str
    tenant: str
    key: str = "key_0"
    user: str = "usr_0"
    group: str = "grp_0"
    role: str = "nobody"
    role_change: str = "rch_0"
    auth_session: str = "ses_0"
    invitation: str = "inv_0"

    def fill(self, text: str) -> str:
        for name in (field.name for field in fields(self)):
            for placeholder in (f"{{{name}}}", f"{{{name}_id}}"):
                text = text.replace(placeholder, getattr(self, name))
        return text.replace("{session}", new_id("s"))

    def filled(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {name: self.fill(value) if isinstance(value, str) else value for name, value in fields.items()}


MADE_UP = Ids(new_id("corpus"), new_id("doc"), new_id("run"), f"audio_{'0' * 40}", "made-up")


@pytest.fixture(scope="module", params=["both walls", "no criterion", "no row-level security"])
async def walled(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Api]:
    """An API with both walls between tenants, or with one of them."""
    settings = servers.with_env()
    async with serving(settings) as (app, url), working(settings):
        api = Api(servers, app, url)
        database = api.resources.get(Database)
        if request.param == "no criterion":
            database.tenant_criterion = False
        elif request.param == "no row-level security":
            await _without_row_level_security(database, servers)
        await api.person()
        async with database.work(None) as work:
            seen = await work.raw.fetchval("select count(*) from tenants")
        assert (seen > 0) is (request.param == "no row-level security"), "the wall is not where this test thinks"
        yield api
        await api.close()


async def _without_row_level_security(database: Database, servers: Servers) -> None:
    """From now on the pool logs in as the superuser and stays it."""
    database._arguments = connect_arguments(servers.settings.stores.database_migration_url.get_secret_value())

    @event.listens_for(database.engine.sync_engine, "connect")
    def stay_superuser(connection: Any, _: Any) -> None:
        connection.run_async(lambda driver: driver.execute("set role none"))

    await database.engine.dispose()


@pytest.fixture(scope="module")
async def victim(walled: Api) -> tuple[Person, Ids]:
    """Someone with a corpus, a document, a run and a spoken answer."""
    person = await walled.person("editor")
    corpus = await person.corpus()
    document = await person.text(corpus, f"The treasure is buried in {CANARY}.")
    events = await person.run(corpus, "Where is the treasure buried?", audio=True)
    (spoken,) = [event for event in events if event.type == "audio.ready"]
    assert CANARY in events[-3].raw + events[-2].raw
    group, role, change = new_id("grp"), new_id("r").replace("_", "-"), new_id("rch")
    for statement in (
        "insert into groups (tenant_id, id, display_name) values ($1, $3, 'Hidden')",
        "insert into group_members (tenant_id, group_id, user_id) values ($1, $3, $2)",
        "insert into custom_roles (tenant_id, id, name, base, actions) values ($1, $4, $2, 'reader', '{}')",
        "insert into role_changes (tenant_id, id, user_id, role, requested_by, expires_at) "
        "values ($1, $5, $2, 'admin', 'x', now() + interval '1 day')",
        "insert into auth_sessions (tenant_id, id, user_id, kind, expires_at) values ($1, $5, $2, 'password', now() + interval '1 day')",
        "insert into invitations (tenant_id, id, email, role, hash, expires_at) "
        "values ($1, $5, 'x', 'reader', convert_to($5, 'UTF8'), now() + interval '1 day')",
    ):
        # Each has its own choice of the values, and the driver wants the type of every one.
        await rows(
            walled, f"with given as (select $1::text, $2::text, $3::text, $4::text, $5::text) {statement}", person.tenant, person.user_id,
            group, role, change,
        )  # fmt: skip
    return person, Ids(
        corpus, document, (events[0].id or "").partition(".")[0], spoken.data["data"]["audio_id"], person.tenant, person.key_id,
        person.user_id, group, role, change, change, change,
    )  # fmt: skip


def takes_ids(route: Known) -> bool:
    return bool(route.parameters) or route.gate.on is not None or str(route) in (*QUERIES, *JSON_BODIES)


def versioned(route: Known) -> str:
    return f"{route.method} {'/v1' if route.legacy else ''}{route.path}"


async def probe(person: Person, route: Known, ids: Ids) -> tuple[int, dict[str, str], bytes]:
    name = versioned(route)
    options: dict[str, Any] = {"headers": {"X-Request-Id": "probe"}}
    if name in FORMS:
        options |= {"data": ids.filled(FORMS[name]), "files": {"file": ("a.txt", b"Planted.")}}
    elif name in JSON_BODIES:
        options["json"] = ids.filled(JSON_BODIES[name])
    elif name in QUERIES:
        options["params"] = ids.filled(QUERIES[name])
    else:
        assert route.method == "GET", f"{route} takes an id and is not probed"
    answer = await person.client.request(route.method, ids.fill(route.path), **options)
    headers = {key: value for key, value in answer.headers.items() if key not in ("date",)}
    return answer.status_code, headers, answer.content


async def state(api: Api, tenant: str) -> list[Any]:
    """What a probe could have changed."""
    return [
        await rows(api, f"select * from {table} where tenant_id = $1 order by 1, 2, 3", tenant)
        for table in (
            "corpora",
            "documents",
            "document_versions",
            "chunks",
            "jobs",
            "runs",
            "messages",
            "document_permissions",
            "audio_files",
            "tenant_plans",
            "feature_overrides",
            "users",
            "groups",
            "group_members",
            "custom_roles",
            "role_changes",
            "auth_sessions",
            "invitations",
        )
    ] + [await rows(api, "select id, role, active, expires_at, revoked_at, replaced_by from api_keys where tenant_id = $1", tenant)]


async def leaks(api: Api, person: Person, victim: tuple[Person, Ids], *, except_on: frozenset[str] = frozenset()) -> list[str]:
    before = await state(api, victim[0].tenant)
    found, probed = [], 0
    for route in known_routes(api):
        if not takes_ids(route) or (route.gate.on is not None and route.gate.on.value in except_on):
            continue
        real, made_up = await probe(person, route, victim[1]), await probe(person, route, MADE_UP)
        probed += 1
        if real != made_up or real[0] >= 500 or CANARY.encode() in real[2]:
            found.append(f"{route}: {real} is not {made_up}")
    assert probed > 10
    assert await state(api, victim[0].tenant) == before
    return found


async def test_another_tenant_cannot_tell_a_real_id_from_a_made_up_one(walled: Api, victim: tuple[Person, Ids]) -> None:
    for role in ("admin", "editor", "reader"):
        assert await leaks(walled, await walled.person(role), victim) == []


async def test_a_colleague_cannot_tell_a_hidden_document_or_run_from_none(walled: Api, victim: tuple[Person, Ids]) -> None:
    # Corpora, spoken answers and the tenant itself are the tenant's; what is in a corpus, and who asked what, is not.
    hidden = victim[0], replace(victim[1], tenant=MADE_UP.tenant)
    for role in ("editor", "reader"):
        colleague = await walled.person(role, victim[0].tenant)
        assert await leaks(walled, colleague, hidden, except_on=frozenset({"corpus", "audio"})) == []
        assert await colleague.search(victim[1].corpus, f"treasure {CANARY}") == []
        assert (await colleague.get("/v1/documents")).json()["data"] == []
        console = (await colleague.get("/v1/ui/documents", params={"q": victim[1].document})).json()["data"]
        assert (console["items"], console["facets"]) == ([], {"status": []})
        assert not any(CANARY in told.raw for told in await colleague.run(victim[1].corpus, "Where is the treasure buried?"))


async def test_ids_inside_a_search_or_a_stream_find_nothing_either(walled: Api, victim: tuple[Person, Ids]) -> None:
    intruder = await walled.person()
    own = await intruder.corpus()
    await intruder.text(own, "Nothing of interest is buried here.")
    for ids in (victim[1], MADE_UP):
        assert await intruder.search(own, f"treasure {CANARY}", document_ids=[ids.document]) == []
    answers = []
    for ids in (victim[1], MADE_UP):
        for path, body in ((f"/v1/runs/{ids.run}/events", None), ("/v1/run", {"session_id": "s", "corpus_id": own, "message": "x"})):
            headers = {"Last-Event-ID": f"{ids.run}.0", "X-Request-Id": "probe"}
            answer = await intruder.client.request("POST" if body else "GET", path, json=body, headers=headers)
            assert [event.type for event in parse_events(answer.text)] == ["resume.unsupported", "done"]
            answers.append(answer.content)
    assert len(set(answers)) == 1


async def test_the_same_ids_in_two_tenants_never_mix(walled: Api) -> None:
    people = [await walled.person(), await walled.person()]
    for person in people:
        await person.corpus(id="shared", visibility="tenant")
        await person.text("shared", f"The password of {person.tenant} is secret.", document_id="same")
    for person in people:
        passages = await person.search("shared", "what is the password?")
        assert [passage["text"] for passage in passages] == [f"The password of {person.tenant} is secret."]
        (final,) = [event for event in await person.run("shared", "What is the password?") if event.type == "message.final"]
        other = next(one.tenant for one in people if one is not person)
        assert person.tenant in json.dumps(final.data)
        assert other not in json.dumps(final.data)
    await people[0].delete("/v1/documents/same")
    assert len(await people[1].search("shared", "what is the password?")) == 1
    assert (await people[0].delete("/v1/corpora/shared")).status_code == 202
    assert (await people[1].get("/v1/corpora/shared")).status_code == 200


async def test_a_session_of_another_tenant_is_refused(walled: Api) -> None:
    one, other = await walled.person(), await walled.person()
    session = new_id("s")
    await one.run(await one.corpus(), "Hello?", session_id=session)
    body = {"session_id": session, "corpus_id": await other.corpus(), "message": "What was said before?"}
    answer = await other.post("/v1/run", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "SESSION_TENANT_MISMATCH")
