"""Every citation can be checked, none comes from what the caller may not see, and the receipt says how the answer came about."""

import asyncio

import pytest

from tests.agents.scripted import FACTS, Installation, asking, check_grammar, run_id_of
from tests.support.api import Api, Event, Person

TEXT = (
    "Harbour rules\n\n"
    "Ships of more than 300 tonnes take a pilot; the pilot boards at the outer buoy. Fishing within the mole is forbidden!\n\n"
    "“Éclair” is the name of the harbour’s tug 🚢. It was launched in 1987 and tows up to 40,000 tonnes.\n\n"
    "The harbour master, Ms. J. K. Okafor, is reached on channel 12. Her deputy is Mr. Lindqvist."
)
QUESTIONS = ["Which ships take a pilot?", "What is the name of the tug?", "Who is the harbour master?", "Is fishing forbidden?"]


def citations(events: list[Event]) -> list[dict[str, object]]:
    check_grammar(events)
    found: list[dict[str, object]] = events[-2].data["data"]["citations"]
    return found


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_quote_stands_letter_for_letter_where_it_says(api: Api, question: str) -> None:
    person = await api.person()
    corpus = await person.corpus()
    document = await person.text(corpus, TEXT, metadata_json={"source": "handbook"}, filename="rules.txt")
    events = await person.run(corpus, question)
    found = citations(events)
    assert found
    assert events[-2].data["data"]["grounded"] is True
    for citation in found:
        about = citation["metadata"]
        assert isinstance(about, dict)
        assert citation["source"] == "rules.txt"
        assert about["document_id"] == document
        assert about["quote"]
        assert TEXT[about["start"] : about["end"]] == about["quote"]
        assert f"[{about['marker']}]" in events[-2].data["data"]["text"]
    scores = [citation["score"] for citation in found]
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]  # numbers


async def test_markers_that_point_nowhere_are_no_citations(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    async with asking(person, corpus, scripted.model.play("Ada Moreau is the keeper [7] [0] [999] [1]. Zebras graze [1].")) as stream:
        events = await stream.rest()
    assert [citation["metadata"]["marker"] for citation in citations(events)] == [1]  # type: ignore[index]  # an object


async def test_an_answer_that_no_passage_supports_is_not_grounded(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    for said in ("Ada Moreau keeps it.", "Zyzzyva quux [1].", "[1]", ""):
        async with asking(person, corpus, scripted.model.play(said or "…")) as stream:
            events = await stream.rest()
        assert citations(events) == []
        assert events[-2].data["data"]["grounded"] is False


async def test_where_nothing_matches_the_model_is_not_asked_and_the_answer_says_so(scripted: Installation) -> None:
    person = await scripted.api.person()
    corpus = await person.corpus()
    asked = len(scripted.model.prompts)
    events = await person.run(corpus, "Who is the lighthouse keeper?")
    assert citations(events) == []
    assert events[-2].data["data"]["grounded"] is False
    assert len(scripted.model.prompts) == asked


async def test_the_offline_model_says_plainly_that_nothing_answers(api: Api) -> None:
    person = await api.person()
    corpus = await person.corpus()
    await person.text(corpus, TEXT)
    events = await person.run(corpus, "Wie kocht man Spargelsuppe?")
    assert citations(events) == []
    assert events[-2].data["data"]["grounded"] is False


async def test_what_the_caller_may_not_see_is_neither_cited_nor_shown_to_the_model(scripted: Installation) -> None:
    owner, corpus = await scripted.asker()
    reader = await scripted.api.person("reader", owner.tenant)
    asked = len(scripted.model.prompts)
    events = await reader.run(corpus, "Who is the lighthouse keeper?")
    assert citations(events) == []
    assert len(scripted.model.prompts) == asked
    assert "Ada" not in "".join(event.raw for event in events)


async def test_only_the_visible_half_of_a_corpus_reaches_the_model(scripted: Installation) -> None:
    owner, corpus = await scripted.asker()
    writer = await scripted.api.person("editor", owner.tenant)
    own = await writer.text(corpus, "The lighthouse keeper of the north tower is called Bo Nilsson.")
    events = await writer.run(corpus, "Who is the lighthouse keeper?")
    assert {citation["metadata"]["document_id"] for citation in citations(events)} <= {own}  # type: ignore[index]  # an object
    assert {passage.document_id for passage in scripted.model.prompts[-1].passages} == {own}
    assert "Moreau" not in scripted.model.prompts[-1].messages[-1].content


async def test_the_receipt_tells_all_that_the_answer_was_made_from(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    session_events = await person.run(corpus, "Who is the lighthouse keeper?", top_k=2)
    run_id = run_id_of(session_events)
    told = await scripted.receipt(person, run_id)
    assert told["run_id"] == run_id
    assert told["question"] == "Who is the lighthouse keeper?"
    assert told["request_id"] == session_events[0].data["request_id"]
    assert told["session_id"] == session_events[0].data["session_id"]
    assert told["corpus_id"] == corpus
    assert told["finished_at"] > told["started_at"]
    receipt = told["receipt"]
    assert receipt["model"] == "scripted"
    assert receipt["prompt_version"]
    assert receipt["standalone_question"] == told["question"]
    assert receipt["retrieval"]["top_k"] == 2
    assert receipt["tokens"] == {"input": receipt["tokens"]["input"], "output": receipt["tokens"]["output"], "estimated": True}
    assert receipt["tokens"]["input"] > 0
    assert 0 < receipt["timings_ms"]["retrieved"] <= receipt["timings_ms"]["first_token"] <= receipt["timings_ms"]["generated"]
    assert 1 <= len(receipt["passages"]) <= 2
    admin = await scripted.api.servers.admin()
    try:
        for passage in receipt["passages"]:
            row = await admin.fetchrow("select encode(hash, 'hex') as hash, text from chunks where id = $1", passage["chunk_id"])
            assert row is not None
            assert passage["chunk_hash"] == row["hash"]
            assert FACTS[passage["start"] : passage["end"]] == row["text"]
    finally:
        await admin.close()
    assert receipt["citations"] == session_events[-2].data["data"]["citations"]


@pytest.mark.parametrize(("top_k", "most"), [(1, 1), (3, 3)])
async def test_no_more_passages_than_asked_for(scripted: Installation, top_k: int, most: int) -> None:
    person, corpus = await scripted.asker()
    await asyncio.gather(*(person.text(corpus, f"The lighthouse keeper number {number} is called Keeper{number}.") for number in range(5)))
    events = await person.run(corpus, scripted.model.play("Keeper [1]. Keeper [2]. Keeper [3]. Keeper [4]."), top_k=top_k)
    assert len(citations(events)) <= most
    assert len(scripted.model.prompts[-1].passages) == most


async def test_a_document_replaced_meanwhile_does_not_change_the_receipt(scripted: Installation) -> None:
    person: Person
    person, corpus = await scripted.asker()
    (document,) = (await person.get(f"/v1/documents?corpus_id={corpus}")).json()["data"]
    events = await person.run(corpus, "Who is the lighthouse keeper?")
    before = await scripted.receipt(person, run_id_of(events))
    await person.text(corpus, "The lighthouse keeper is called Someone Else.", document_id=document["id"], overwrite=True)
    assert await scripted.receipt(person, run_id_of(events)) == before
    again = await person.run(corpus, "Who is the lighthouse keeper?")
    assert {passage["document_version"] for passage in (await scripted.receipt(person, run_id_of(again)))["receipt"]["passages"]} == {2}
