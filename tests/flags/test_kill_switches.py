"""Kill switches and the freeze: what each refuses, with which words, whom it leaves alone, and who may change it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from nexusrag.kernel.ids import new_id
from nexusrag.kernel.switches import WRITE_FREEZE, Switch
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, count, rows
from tests.support.soon import soon
from tests.support.switched import forced

PATH = "/v1/admin/rollouts/killswitches"
OFF, FROZEN = ("FEATURE_TEMPORARILY_DISABLED", 503), ("WRITE_FROZEN", 503)


@pytest.fixture
async def person(api: Api) -> Person:
    return await api.person()


@pytest.fixture
async def operator(api: Api) -> AsyncIterator[Person]:
    operator = await api.operator()
    yield operator
    await rows(api, "delete from flags where not forced")
    await rows(api, "select pg_notify('nexusrag_changes', 'flags *')")


async def test_all_switches_are_shown_with_where_their_values_come_from(operator: Person) -> None:
    data = (await operator.get(PATH)).json()["data"]
    assert data["kill_switches"] == {switch.value: False for switch in Switch}
    assert set(data["sources"].values()) == {"default"}
    answer = await operator.patch(PATH, json={"kill_switches": {"kill.notifications": True}})
    data = answer.json()["data"]
    assert (answer.status_code, data["kill_switches"]["kill.notifications"], data["sources"]["kill.notifications"]) == (200, True, "stored")
    assert (await operator.get(PATH)).json()["data"] == data


async def test_operators_see_how_it_is_for_one_tenant(api: Api, person: Person, operator: Person) -> None:
    async with forced(api, Switch.TTS, person.tenant):
        everyone = (await operator.get(PATH)).json()["data"]
        theirs = (await operator.get(PATH, params={"tenant_id": person.tenant})).json()["data"]
    assert (everyone["kill_switches"]["kill.tts"], everyone["sources"]["kill.tts"]) == (False, "default")
    assert (theirs["kill_switches"]["kill.tts"], theirs["sources"]["kill.tts"]) == (True, "forced")
    assert [(one["key"], one["tenant_id"]) for one in everyone["forced"] if one["tenant_id"] == person.tenant] == [
        ("kill.tts", person.tenant)
    ]
    assert error_of(await operator.get(PATH, params={"tenant_id": "nobodys"})) == ("NOT_FOUND", 404)


async def test_a_change_is_on_record_with_what_it_was(api: Api, operator: Person) -> None:
    await operator.patch(PATH, json={"kill_switches": {"kill.notifications": True}})
    event = (await audited(api, operator.tenant, "rollouts.kill_switch.changed"))[-1]
    assert (event["actor_id"], event["resource_type"], event["resource_id"]) == (operator.key_id, "rollout", "kill.notifications")
    assert '"kill_notifications": {"to": true, "from": false}' in event["metadata"]


async def test_two_who_change_several_in_their_own_order_do_not_wait_for_each_other(api: Api, operator: Person) -> None:
    await operator.patch(PATH, json={"kill_switches": {"kill.notifications": False, "kill.tts": False}})
    touch, other = "update flags set value = 'false' where not forced and key = $1", await api.servers.admin()
    try:
        async with other.transaction():
            await other.execute(touch, "kill.notifications")
            switches = {"kill.tts": False, "kill.notifications": False}
            patch = asyncio.create_task(operator.patch(PATH, json={"kill_switches": switches}))
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into flags%'"
            await soon(lambda: count(api, waiting), 1, within_s=10)
            await other.execute(touch, "kill.tts")
        assert (await patch).status_code == 200
    finally:
        await other.close()


@pytest.mark.parametrize("path", [PATH, "/v1/admin/rollouts/canary"])
async def test_nobody_but_operators_sees_or_changes_switches(api: Api, person: Person, path: str) -> None:
    await api.operator()
    assert error_of(await person.get(path)) == ("AUTH_FORBIDDEN", 403)
    assert error_of(await person.patch(path, json={"kill_switches": {"kill.run": True}})) == ("AUTH_FORBIDDEN", 403)


@pytest.mark.parametrize(
    "switches", [{"kill.everything": True}, {"kill.run": "true"}, {"kill.run": 1}, {"kill.run": None}, {"rollout.tts": True}, {}]
)
async def test_unknown_switches_and_other_values_are_refused(operator: Person, switches: dict[str, object]) -> None:
    assert error_of(await operator.patch(PATH, json={"kill_switches": switches})) == ("VALIDATION_ERROR", 422)
    both = await operator.patch(PATH, json={"kill_switches": {"kill.run": True, **switches}})
    assert switches == {} or error_of(both) == ("VALIDATION_ERROR", 422)
    if switches:
        assert (await operator.get(PATH)).json()["data"]["kill_switches"]["kill.run"] is False


async def test_each_switch_refuses_its_routes_alone(api: Api, person: Person) -> None:
    corpus = await person.corpus()
    document = await person.text(corpus, "Words.")
    run = {"session_id": new_id("s"), "corpus_id": corpus, "message": "Who?"}
    async with forced(api, Switch.RUN, person.tenant):
        answer = await person.post("/v1/run", json=run)
        assert error_of(answer) == OFF
        assert 1 <= int(answer.headers["Retry-After"]) <= 30
        assert answer.json()["error"]["details"] == {"switch": "kill.run"}
        assert (await person.post("/run", json=run)).json()["detail"]["code"] == OFF[0]
        assert (await person.get(f"/v1/documents/{document}")).status_code == 200
        await person.text(corpus, "More words.")
    async with forced(api, Switch.INGEST, person.tenant):
        assert error_of(await person.post("/v1/documents/text", json={"corpus_id": corpus, "text": "No."})) == OFF
        assert error_of(await person.upload(corpus, "a.txt", b"No.")) == OFF
        assert error_of(await person.post(f"/v1/documents/{document}/reindex", json={})) == OFF
        assert error_of(await person.post("/v1/ui/actions/reindex-document", json={"document_id": document})) == OFF
        assert (await person.run(corpus, "Who?"))[-1].type == "done"
        assert (await person.delete(f"/v1/documents/{document}")).status_code == 204
    assert (await person.post("/v1/run", json=run)).status_code == 200


async def test_what_is_switched_off_for_one_tenant_goes_on_for_others(api: Api, person: Person) -> None:
    other = await api.person()
    corpus = await other.corpus()
    async with forced(api, Switch.RUN, person.tenant):
        assert (await other.run(corpus, "Who?"))[-1].type == "done"


async def test_a_reader_who_comes_back_is_no_new_run(api: Api, person: Person) -> None:
    corpus = await person.corpus()
    events = await person.run(corpus, "Who?")
    body = {"session_id": new_id("s"), "corpus_id": corpus, "message": "Who?"}
    async with forced(api, Switch.RUN, person.tenant), forced(api, WRITE_FREEZE):
        answer = await person.post("/v1/run", json=body, headers={"Last-Event-ID": events[0].id or ""})
        assert answer.status_code == 200
        assert answer.text == "".join(event.raw for event in events[1:])
        assert (await person.get(f"/v1/runs/{(events[0].id or '').partition('.')[0]}/events")).status_code == 200


async def test_a_run_without_speech_says_so_and_answers(api: Api, person: Person) -> None:
    corpus = await person.corpus()
    await person.text(corpus, "The treasure is on the island.")
    async with forced(api, Switch.TTS, person.tenant):
        events = await person.run(corpus, "Where is the treasure?", audio=True)
        (final,) = [event.data["data"] for event in events if event.type == "message.final"]
        assert (final["reduced"], events[-1].type) == ({"audio": False}, "done")
        assert (events[-2].type, events[-2].data["data"]["code"]) == ("audio.error", "FEATURE_TEMPORARILY_DISABLED")
    spoken = await person.run(corpus, "Where is the treasure?", audio=True)
    assert "audio.ready" in {event.type for event in spoken}


async def test_an_outside_provider_that_is_switched_off_is_not_asked(api: Api, person: Person) -> None:
    config = {"retrieval": {"provider": "gcp_vertex", "project": "p", "location": "eu", "resource_id": "r"}}
    corpus = await person.corpus(provider_config_json=config)
    local = await person.corpus()
    async with forced(api, Switch.EXTERNAL_RETRIEVAL, person.tenant):
        assert error_of(await person.post(f"/v1/corpora/{corpus}/search", json={"query": "Who?"})) == OFF
        body = {"session_id": new_id("s"), "corpus_id": corpus, "message": "Who?"}
        assert error_of(await person.post("/v1/run", json=body)) == OFF
        assert await person.search(local, "Who?") == []
    assert error_of(await person.post(f"/v1/corpora/{corpus}/search", json={"query": "Who?"})) != OFF


async def test_while_writes_are_frozen_what_is_there_is_read_and_nothing_is_written(api: Api, person: Person, operator: Person) -> None:
    corpus = await person.corpus()
    document = await person.text(corpus, "Words.")
    before = len(await audited(api, person.tenant, "corpora.created"))
    async with forced(api, WRITE_FREEZE):
        for answer in (
            await person.post("/v1/corpora", json={"name": "Corpus"}),
            await person.patch(f"/v1/corpora/{corpus}", json={"name": "Other"}),
            await person.delete(f"/v1/documents/{document}"),
            await person.post("/v1/run", json={"session_id": new_id("s"), "corpus_id": corpus, "message": "Who?"}),
            await person.post("/v1/documents/text", json={"corpus_id": corpus, "text": "No."}),
            await person.post("/v1/self-serve/api-keys", json={}),
            await api.anonymous().post("/v1/auth/register", json={}),
        ):
            assert error_of(answer) == FROZEN
            assert int(answer.headers["Retry-After"]) >= 1
        assert (await person.get(f"/v1/documents/{document}")).status_code == 200
        assert [passage["text"] for passage in await person.search(corpus, "words")] == ["Words."]
        # Whoever may lift it can come in, and do so.
        login = await api.anonymous().post("/v1/auth/login", json={"email": "nobody@b.example", "password": "x"})
        assert error_of(login) != FROZEN
        assert (await operator.patch(PATH, json={"kill_switches": {"kill.notifications": False}})).status_code == 200
    assert len(await audited(api, person.tenant, "corpora.created")) == before
    assert (await person.delete(f"/v1/documents/{document}")).status_code == 204
