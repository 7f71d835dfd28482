"""Conversations: whose they are, and what of them the next question sees."""

import asyncio

import pytest

from nexusrag.kernel.ids import new_id
from tests.agents.scripted import FACTS, Installation, asking, check_grammar, run_id_of
from tests.support.api import Api, error_of


def body(session: str, corpus: str, message: str = "Who is the lighthouse keeper?") -> dict[str, str]:
    return {"session_id": session, "corpus_id": corpus, "message": message}


async def test_a_session_of_another_tenant_is_refused(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    stranger, other_corpus = await scripted.asker()
    session = new_id("s")
    await person.run(corpus, "Who is the lighthouse keeper?", session_id=session)
    refused = await stranger.post("/v1/run", json=body(session, other_corpus))
    assert error_of(refused) == ("SESSION_TENANT_MISMATCH", 403)


async def test_a_session_of_another_person_is_not_found(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    colleague = await scripted.api.person("admin", person.tenant)
    session = new_id("s")
    await person.run(corpus, "Who is the lighthouse keeper?", session_id=session)
    assert error_of(await colleague.post("/v1/run", json=body(session, corpus))) == ("NOT_FOUND", 404)


async def test_two_tenants_that_claim_one_session_at_once_do_not_both_get_it(scripted: Installation) -> None:
    first, first_corpus = await scripted.asker()
    second, second_corpus = await scripted.asker()
    for _ in range(5):
        session = new_id("s")
        answers = await asyncio.gather(
            first.post("/v1/run", json=body(session, first_corpus)), second.post("/v1/run", json=body(session, second_corpus))
        )
        assert sorted(answer.status_code for answer in answers) == [200, 403]


async def test_the_first_two_runs_of_a_person_may_share_a_session_from_the_start(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    for _ in range(5):
        session = new_id("s")
        answers = await asyncio.gather(*(person.post("/v1/run", json=body(session, corpus)) for _ in range(4)))
        assert [answer.status_code for answer in answers] == [200] * 4


async def test_a_follow_up_is_understood_from_what_was_said_before(api: Api) -> None:
    """The offline model: the previous question completes the new one."""
    person = await api.person()
    corpus = await person.corpus()
    await person.text(corpus, FACTS)
    session = new_id("s")
    await person.run(corpus, "Who built the fog horn in 1902?", session_id=session)
    follow_up = await person.run(corpus, "And when?", session_id=session)
    assert "1902" in follow_up[-2].data["data"]["text"]
    receipt = (await person.get(f"/v1/runs/{run_id_of(follow_up)}")).json()["data"]
    assert receipt["question"] == "And when?"
    assert receipt["receipt"]["standalone_question"] == "Who built the fog horn in 1902? And when?"


async def test_the_model_sees_the_conversation_in_its_order(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    session = new_id("s")
    for number in range(3):
        question = scripted.model.play(f"answer {number} [1].")
        await person.run(corpus, question, session_id=session)
    said = [(message.role, message.content) for message in scripted.model.prompts[-1].messages]
    assert [role for role, _ in said] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [said[2][1], said[4][1]] == ["answer 0 [1].", "answer 1 [1]."]


async def test_another_session_sees_nothing_of_it(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    for _ in range(2):
        await person.run(corpus, "Who is the lighthouse keeper?", session_id=new_id("s"))
    assert [message.role for message in scripted.model.prompts[-1].messages] == ["system", "user"]


@pytest.mark.slow
async def test_runs_at_once_in_one_session_do_not_interleave_what_was_said(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    session, release = new_id("s"), asyncio.Event()
    questions = [scripted.model.play(f"answer {number} ", release, "[1].") for number in range(16)]
    opened = [asking(person, corpus, question, session_id=session) for question in questions]
    streams = await asyncio.gather(*(context.__aenter__() for context in opened))
    for stream in streams:
        await stream.read(2)
    release.set()
    for stream, context in zip(streams, opened, strict=True):
        check_grammar(await stream.rest())
        await context.__aexit__(None, None, None)
    admin = await scripted.api.servers.admin()
    try:
        rows = await admin.fetch("select run_id, role from messages where session_id = $1 order by id", session)
    finally:
        await admin.close()
    assert len(rows) == 32
    for question, answer in zip(rows[::2], rows[1::2], strict=True):
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert question["run_id"] == answer["run_id"]


async def test_a_long_history_is_cut_to_the_window_and_begins_with_a_question(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    session = new_id("s")
    for _ in range(6):
        await person.run(corpus, scripted.model.play("y" * 15_000, "[1]."), session_id=session)
    prompt = scripted.model.prompts[-1]
    size = sum(len(message.content) for message in prompt.messages)
    assert size <= scripted.model.context_tokens * 4
    roles = [message.role for message in prompt.messages]
    assert roles[:2] == ["system", "user"]
    assert 2 < len(roles) < 12


@pytest.mark.parametrize("session", ["", "x" * 129, "a\nb", "a\x00b", "\u200b"])
async def test_what_is_no_session_id_is_refused(scripted: Installation, session: str) -> None:
    person, corpus = await scripted.asker()
    assert error_of(await person.post("/v1/run", json=body(session, corpus)))[0] == "VALIDATION_ERROR"
