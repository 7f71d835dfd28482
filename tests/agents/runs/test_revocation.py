"""Who may no longer call loses their streams within a second, and the model is asked no more on their behalf."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from urllib.parse import urlsplit

import pytest

from nexusrag.agents.runs import replay
from nexusrag.identity.api_keys.provision import revoke_key
from nexusrag.identity.credentials.facade import CredentialCache
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Work
from nexusrag.kernel.ids import new_id
from tests.agents.scripted import Installation, Stream, asking, check_grammar, code_of, following, installation
from tests.identity.accounts.people import account
from tests.support.api import Api, Person, parse_events
from tests.support.behind import audited, rows
from tests.support.installation import Servers, http, serving
from tests.support.processes import database_proxy, until

REVOKED = "AUTH_REVOKED_KEY"


@pytest.fixture(scope="module")
async def elsewhere(scripted: Installation) -> AsyncIterator[str]:
    """Another process's worth of readers."""
    async with serving(scripted.settings) as (_, base_url):
        yield base_url


async def revoke(api: Api, person: Person) -> None:
    connection = await api.servers.admin()
    try:
        assert await revoke_key(connection, person.tenant, person.key_id)
    finally:
        await connection.close()


async def disable(api: Api, person: Person) -> None:
    await changed(api, "update users set status = 'disabled' where tenant_id = $1 and id = $2", "person", person)


async def suspend(api: Api, person: Person) -> None:
    await changed(api, "update tenants set status = 'suspended' where id = $1 and $2 <> ''", "tenant", person)


async def log_out(api: Api, person: Person) -> None:
    assert (await person.post("/v1/auth/logout")).status_code == 204


async def changed(api: Api, statement: str, kind: str, person: Person) -> None:
    """As a route does it: the row and its announcement in one transaction."""
    key = person.tenant if kind == "tenant" else f"{person.tenant}/{person.user_id}"
    await rows(api, f"with changed as ({statement} returning 1) select pg_notify('nexusrag_changes', $3) from changed",
               person.tenant, person.user_id, f"{kind} {key}")  # fmt: skip


async def logged_in(api: Api, admin: Person) -> Person:
    """Somebody of the tenant who came with a password."""
    somebody = await account(api, "admin", admin=admin)
    token, tokens = somebody.tokens["access_token"], somebody.tokens
    client = http(api.base_url, token)
    api._clients.append(client)
    return Person(client, {"tenant_id": admin.tenant, "user_id": somebody.user_id, "key_id": tokens["session_id"], "api_key": token})


async def colleague_key(api: Api, person: Person) -> Person:
    """Another key of the same person."""
    second = await api.person("admin", person.tenant)
    await rows(api, "update api_keys set user_id = $3 where tenant_id = $1 and id = $2", person.tenant, second.key_id, person.user_id)
    second.user_id = person.user_id
    return second


async def ends_soon(stream: Stream) -> None:
    began = monotonic()
    events = await stream.rest()
    assert monotonic() - began < 5
    assert [event.type for event in events[-2:]] == ["error", "done"]
    assert code_of(events) == REVOKED


async def stopped(scripted: Installation) -> None:
    async def closed() -> bool:
        return scripted.model.open == 0

    await until(closed, within_s=5)


@pytest.mark.parametrize("end", [revoke, disable, suspend, log_out])
async def test_a_run_ends_for_all_its_readers_and_the_model_stops(
    scripted: Installation, elsewhere: str, end: Callable[[Api, Person], Awaitable[None]]
) -> None:
    api, (person, corpus) = scripted.api, await scripted.asker()
    if end is log_out:
        person = await logged_in(api, person)
        corpus = await person.corpus()
        await person.text(corpus, "The lighthouse keeper is called Ada.")
    async with asking(person, corpus, scripted.model.play("one ", asyncio.Event(), "never")) as stream:
        await stream.read(2)
        async with following(person, stream.run_id, None, elsewhere) as second:
            await second.read(2)
            assert api.resources.get(Changes).live
            await end(api, person)
            await asyncio.gather(ends_soon(stream), ends_soon(second))
        await stopped(scripted)
    check_grammar(stream.events)
    (run,) = await rows(api, "select state, error_code from runs where tenant_id = $1", person.tenant)
    assert run == {"state": "cancelled", "error_code": REVOKED}


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_reader_with_another_credential_is_cut_off_and_the_run_goes_on(scripted: Installation, elsewhere: str, where: str) -> None:
    """What is left is there for the person's next credential, from exactly where they were."""
    api, (person, corpus) = scripted.api, await scripted.asker()
    other, release = await colleague_key(api, person), asyncio.Event()
    async with asking(person, corpus, scripted.model.play("one ", release, "two [1].")) as stream:
        await stream.read(2)
        async with following(other, stream.run_id, None, elsewhere if where == "elsewhere" else None) as second:
            await second.read(2)
            await revoke(api, other)
            await ends_soon(second)
        last = second.events[-1]
        assert (last.type, last.id, last.data["seq"]) == ("done", f"{stream.run_id}.2", 4)
        release.set()
        events = await stream.rest()
    check_grammar(events)
    assert events[-2].type == "message.final"
    again = parse_events((await person.get(f"/v1/runs/{stream.run_id}/events", headers={"Last-Event-ID": last.id})).text)
    assert [event.raw for event in [*second.events[:2], *again]] == [event.raw for event in events]


async def test_a_stream_that_has_ended_ends_once(scripted: Installation, elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run may reach a reader in another process before that process hears that the credential is revoked."""
    api, (person, corpus) = scripted.api, await scripted.asker()
    other, look = await colleague_key(api, person), replay._look

    async def revoked_at_the_end(work: Work, run_id: str, place: int) -> tuple[bool, list[tuple[int, str]], bool]:
        over, events, beyond = await look(work, run_id, place)
        if not events:
            await revoke(api, other)
            await asyncio.sleep(5)
        return over and not events, events, beyond  # as if the end had been written between its two statements

    monkeypatch.setattr(replay, "_look", revoked_at_the_end)
    async with asking(person, corpus, scripted.model.play("one ", "two [1].")) as stream:
        events = await stream.rest()
    async with following(other, stream.run_id, None, elsewhere) as second:
        assert [event.raw for event in await second.rest()] == [event.raw for event in events]


async def test_a_harmless_change_ends_nothing(scripted: Installation, elsewhere: str) -> None:
    api, (person, corpus) = scripted.api, await scripted.asker()
    release = asyncio.Event()
    async with asking(person, corpus, scripted.model.play("one ", release, "two [1].")) as stream:
        await stream.read(2)
        async with following(person, stream.run_id, None, elsewhere) as second:
            await second.read(2)
            await changed(api, "update users set display_name = 'New' where tenant_id = $1 and id = $2", "person", person)
            await changed(api, "update tenants set name = 'New' where id = $1 and $2 <> ''", "tenant", person)
            await rows(api, "select pg_notify('nexusrag_changes', 'credential ' || $1)", person.key_id)
            assert (await person.get("/v1/corpora")).status_code == 200
            release.set()
            assert (await second.rest())[-2].type == "message.final"
        assert (await stream.rest())[-2].type == "message.final"


async def test_a_stranger_who_is_revoked_ends_nobody_elses(scripted: Installation) -> None:
    api, (person, corpus) = scripted.api, await scripted.asker()
    colleague, release = await api.person("admin", person.tenant), asyncio.Event()
    async with asking(person, corpus, scripted.model.play("one ", release, "two [1].")) as stream:
        await stream.read(2)
        await revoke(api, colleague)
        await disable(api, colleague)
        release.set()
        assert (await stream.rest())[-2].type == "message.final"


async def test_who_is_revoked_while_asking_gets_no_run(scripted: Installation) -> None:
    """The key was good when the first bytes came, and is not any more when the last ones do."""
    api, (person, corpus) = scripted.api, await scripted.asker()
    fresh = await colleague_key(api, person)
    question = scripted.model.play("one ", asyncio.Event())
    body = f'{{"session_id": "{new_id("s")}", "corpus_id": "{corpus}", "message": "{question}"}}'.encode()
    parts = urlsplit(api.base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        head = f"POST /v1/run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {fresh.key}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])

        async def known() -> bool:
            return any(event["actor_id"] == fresh.key_id for event in await audited(api, person.tenant, "auth.access.success"))

        await until(known)
        heard = api.resources.get(CredentialCache).generation
        await revoke(api, fresh)

        async def told() -> bool:
            return api.resources.get(CredentialCache).generation > heard

        await until(told)
        writer.write(body[-1:])
        async with asyncio.timeout(5):
            answer = await reader.readuntil(b"event: done\n")
        assert f'"code":"{REVOKED}"'.encode() in answer
        await stopped(scripted)
    finally:
        writer.close()


@pytest.mark.slow
async def test_what_was_missed_while_nobody_could_listen_is_made_up_for(servers: Servers) -> None:
    async with database_proxy(servers) as (proxy, url), installation(servers, DATABASE_URL=url) as held:
        person, corpus = await held.asker()
        release = asyncio.Event()
        kept, kept_corpus = await held.asker()
        changes = held.api.resources.get(Changes)

        async def deaf() -> bool:
            return not changes.live

        async with (
            asking(person, corpus, held.model.play("one ", asyncio.Event())) as stream,
            asking(kept, kept_corpus, held.model.play("one ", release, "two [1].")) as other,
        ):
            await stream.read(2)
            await other.read(2)
            proxy.refusing = True
            proxy.cut()
            await until(deaf)
            await rows(held.api, "update api_keys set revoked_at = now() where id = $1", person.key_id)  # nobody is told
            proxy.refusing = False
            events = await stream.rest()
            assert code_of(events) == REVOKED
            release.set()
            assert (await other.rest())[-2].type == "message.final"
