"""A reader that comes back gets the rest, byte for byte, wherever it knocks; and nobody else gets anything."""

import asyncio

import pytest

from nexusrag.kernel.ids import new_id
from tests.agents.scripted import FACTS, Installation, asking, check_grammar, following, installation, run_id_of
from tests.support.api import Event, Person, parse_events
from tests.support.installation import Servers, serving


def whole(events: list[Event]) -> str:
    return "".join(event.raw for event in events)


def is_refusal(text: str) -> bool:
    """resume.unsupported, done, and not a word more."""
    events = parse_events(text)
    return (
        [event.type for event in events] == ["resume.unsupported", "done"]
        and events[0].data["data"]["code"] == "RESUME_UNSUPPORTED"
        and events[0].data["session_id"] is None
        and "Ada" not in text
    )


async def resumed(person: Person, run_id: str, last: str | None) -> str:
    headers = {} if last is None else {"Last-Event-ID": last.encode()}
    answer = await person.get(f"/v1/runs/{run_id}/events", headers=headers)
    assert answer.status_code == 200
    return answer.text


async def resumed_by_post(person: Person, corpus: str, last: str) -> str:
    body = {"session_id": new_id("s"), "corpus_id": corpus, "message": "again"}
    answer = await person.post("/v1/run", json=body, headers={"Last-Event-ID": last.encode()})
    assert answer.status_code == 200
    return answer.text


async def test_a_finished_run_goes_on_byte_for_byte_from_every_place(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    events = await person.run(corpus, scripted.model.play("one ", "two\n", "three [1]."))
    check_grammar(events)
    run_id = run_id_of(events)
    assert await resumed(person, run_id, None) == whole(events)
    for place in range(len(events) + 1):
        assert await resumed(person, run_id, f"{run_id}.{place}") == whole(events[place:])
        assert await resumed_by_post(person, corpus, f"{run_id}.{place}") == whole(events[place:])


async def test_a_run_in_progress_goes_on_here_and_in_another_process(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    release = asyncio.Event()
    async with serving(scripted.settings) as (_, elsewhere), asking(
        person, corpus, scripted.model.play("one ", "two ", release, "three ", "four [1].")
    ) as first:  # fmt: skip
        await first.read(2)
        run_id = first.run_id
        async with following(person, run_id, f"{run_id}.2") as here, following(person, run_id, f"{run_id}.2", elsewhere) as there:
            await here.read(1)
            await there.read(1)
            release.set()
            await asyncio.gather(first.rest(), here.rest(), there.rest())
    check_grammar(first.events)
    assert here.text == there.text == whole(first.events[2:])


async def test_a_stream_that_was_cut_goes_on_in_another_process(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    release = asyncio.Event()
    async with serving(scripted.settings) as (_, elsewhere):
        async with asking(person, corpus, scripted.model.play("one ", release, "two [1].")) as first:
            (accepted, *_) = await first.read(2)
            cut, run_id = first.text, first.run_id
        async with following(person, run_id, f"{run_id}.{len(parse_events(cut))}", elsewhere) as second:
            release.set()
            await second.rest()
    joined = cut + second.text
    check_grammar(parse_events(joined))
    assert joined == await resumed(person, run_id, None)
    assert accepted.type == "request.accepted"


@pytest.mark.slow
async def test_an_id_that_leads_nowhere_is_answered_without_a_hint(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    events = await person.run(corpus, "Who is the lighthouse keeper?")
    run_id = run_id_of(events)
    for last in (
        "x", ".", "1", ".1", f"{run_id}.", f"{run_id}.x", f"{run_id}.-1", f"{run_id}.1.1", f"{run_id}.{10**30}", f"{new_id('run')}.1",
        "a" * 5000, f"{run_id}.²", "run_%00.1", "' or true --.1", "",
    ):  # fmt: skip
        assert is_refusal(await resumed_by_post(person, corpus, last)), last
        assert is_refusal(await resumed(person, run_id, last)), last
    assert is_refusal(await resumed(person, new_id("run"), None))
    assert is_refusal(await resumed(person, new_id("run"), f"{run_id}.1"))


@pytest.mark.parametrize("running", [False, True])
async def test_a_place_that_the_run_never_reached_is_refused(scripted: Installation, running: bool) -> None:
    person, corpus = await scripted.asker()
    release = asyncio.Event()
    if not running:
        release.set()
    async with asking(person, corpus, scripted.model.play("one ", release, "two [1].")) as first:
        await first.read(2)
        if not running:
            await first.rest()
        async with following(person, first.run_id, f"{first.run_id}.999999999") as second:
            await second.rest()
        assert is_refusal(second.text)
        release.set()


async def test_a_place_that_the_run_never_reached_is_refused_in_another_process_once_it_is_over(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    release = asyncio.Event()
    async with serving(scripted.settings) as (_, elsewhere), asking(person, corpus, scripted.model.play("one ", release, "[1].")) as first:
        await first.read(2)
        async with following(person, first.run_id, f"{first.run_id}.999999999", elsewhere) as second:
            release.set()
            await first.rest()
            await second.rest()
        assert is_refusal(second.text)


@pytest.mark.slow
async def test_nobody_else_gets_anything(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    colleague = await scripted.api.person("admin", person.tenant)
    stranger, other_corpus = await scripted.asker()
    colleagues_corpus = await colleague.corpus()
    release = asyncio.Event()
    async with asking(person, corpus, scripted.model.play("one ", release, "two [1].")) as first:
        await first.read(2)
        for _ in range(2):  # while it runs, and afterwards
            for other, own in ((colleague, colleagues_corpus), (stranger, other_corpus)):
                assert is_refusal(await resumed(other, first.run_id, None))
                assert is_refusal(await resumed(other, first.run_id, f"{first.run_id}.1"))
                assert is_refusal(await resumed_by_post(other, own, f"{first.run_id}.1"))
                assert (await other.get(f"/v1/runs/{first.run_id}")).status_code == 404
                assert (await other.post(f"/v1/runs/{first.run_id}/cancel")).status_code == 404
            release.set()
            await first.rest()
    check_grammar(first.events)
    assert first.events[-2].type == "message.final"


async def revoke(scripted: Installation, tenant: str, user_id: str) -> None:
    admin = await scripted.api.servers.admin()
    try:
        assert await admin.fetch(
            "delete from document_permissions where tenant_id = $1 and principal_id = $2 returning id", tenant, user_id
        )  # fmt: skip
    finally:
        await admin.close()


async def reader_with_a_grant(scripted: Installation) -> tuple[Person, str]:
    owner, corpus = await scripted.asker()
    reader = await scripted.api.person("reader", owner.tenant)
    (document,) = (await owner.get(f"/v1/documents?corpus_id={corpus}")).json()["data"]
    admin = await scripted.api.servers.admin()
    try:
        await admin.execute(
            "insert into document_permissions (tenant_id, id, document_id, principal_type, principal_id, permission) "
            "values ($1, $2, $3, 'user', $4, 'read')",
            owner.tenant, new_id("perm"), document["id"], reader.user_id,
        )  # fmt: skip
    finally:
        await admin.close()
    return reader, corpus


async def test_what_the_reader_may_no_longer_see_is_not_replayed(scripted: Installation) -> None:
    reader, corpus = await reader_with_a_grant(scripted)
    events = await reader.run(corpus, "Who is the lighthouse keeper?")
    assert events[-2].data["data"]["citations"]
    assert await resumed(reader, run_id_of(events), None) == whole(events)
    await revoke(scripted, reader.tenant, reader.user_id)
    assert is_refusal(await resumed(reader, run_id_of(events), None))
    assert is_refusal(await resumed_by_post(reader, await reader_corpus(scripted, reader), f"{run_id_of(events)}.1"))


async def reader_corpus(scripted: Installation, reader: Person) -> str:
    admin = await scripted.api.person("admin", reader.tenant)
    return await admin.corpus("tenant")


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_what_the_reader_may_no_longer_see_is_not_replayed_while_the_run_goes_on(scripted: Installation, where: str) -> None:
    reader, corpus = await reader_with_a_grant(scripted)
    release = asyncio.Event()
    async with (
        serving(scripted.settings) as (_, elsewhere),
        asking(reader, corpus, scripted.model.play("Ada ", release, "Moreau [1].")) as first,
    ):
        await first.read(2)
        run_id = first.run_id
        if where == "elsewhere":  # the journal knows what the run has read
            async with following(reader, run_id, None, elsewhere) as seen:
                await seen.read(2)
        await revoke(scripted, reader.tenant, reader.user_id)
        async with following(reader, run_id, None, elsewhere if where == "elsewhere" else None) as second:
            await second.rest()
        assert is_refusal(second.text)
        release.set()


@pytest.mark.slow
async def test_an_expired_journal_is_not_replayed(servers: Servers) -> None:
    async with installation(servers, RUN_JOURNAL_TTL_S="1") as short:
        person, corpus = await short.asker()
        events = await person.run(corpus, "Who is the lighthouse keeper?")
        assert await resumed(person, run_id_of(events), None) == whole(events)
        await asyncio.sleep(1.1)  # the time itself is what is tested
        assert is_refusal(await resumed(person, run_id_of(events), f"{run_id_of(events)}.1"))
        assert (await short.receipt(person, run_id_of(events)))["state"] == "succeeded"


async def test_a_deleted_document_is_not_replayed(scripted: Installation) -> None:
    person = await scripted.api.person()
    corpus = await person.corpus()
    document = await person.text(corpus, FACTS)
    events = await person.run(corpus, "Who is the lighthouse keeper?")
    assert (await person.delete(f"/v1/documents/{document}")).status_code == 204
    assert is_refusal(await resumed(person, run_id_of(events), None))


async def test_a_key_leads_to_the_run_that_it_started(scripted: Installation) -> None:
    """The second request with one Idempotency-Key gets the first one's run, not another answer."""
    person, corpus = await scripted.asker()
    body = {"session_id": new_id("s"), "corpus_id": corpus, "message": "Who is the lighthouse keeper?"}
    first = await person.post("/v1/run", json=body, headers={"Idempotency-Key": "once"})
    asked = len(scripted.model.prompts)
    second = await person.post("/v1/run", json=body, headers={"Idempotency-Key": "once"})
    assert second.text == first.text
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(scripted.model.prompts) == asked
