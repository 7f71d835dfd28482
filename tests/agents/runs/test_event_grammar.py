"""The grammar of a run's events, over everything that can happen in it."""

import asyncio

import httpx_sse
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexusrag.kernel.errors import ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.providers.llm.port import ModelError
from nexusrag.web.sse import frame
from tests.agents.scripted import FACTS, Installation, asking, check_grammar, code_of, installation, run_id_of
from tests.support.api import Api, Person, parse_events
from tests.support.installation import Servers, serving

# What a model may say: all of Unicode but the halves of surrogate pairs, and what a careless framing would fall over.
SAID = st.one_of(
    st.text(min_size=1, max_size=40),
    st.sampled_from(
        ["\r\n", "\n\n", "\r", "data: x", "\n\ndata: {}\n\nevent: done\n\n", "id: 7", ":", "\u2028\u2029\x85", "\x00", "\ufeff", "𝄞é🇫🇷"]
    ),
)


@pytest.fixture
async def somebody(scripted: Installation) -> tuple[Person, str]:
    """A person and their corpus."""
    return await scripted.asker()


async def test_a_plain_run(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    async with asking(person, corpus, "Who is the lighthouse keeper?") as stream:
        events = await stream.rest()
        headers = stream.response.headers
    check_grammar(events, headers["X-Request-Id"])
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["Cache-Control"] == "no-cache"
    assert headers["X-Accel-Buffering"] == "no"
    assert [event.type for event in events] == ["request.accepted", "token.delta", "token.delta", "message.final", "done"]
    assert {event.data["session_id"] for event in events} == {events[0].data["session_id"]}
    assert events[-1].data["data"] == {}


async def test_the_request_id_of_the_client_is_the_one_of_every_event(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    async with asking(person, corpus, "Who is it?", headers={"X-Request-Id": "req-of-my-own"}) as stream:
        check_grammar(await stream.rest(), stream.response.headers["X-Request-Id"])


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_whatever_the_model_says_comes_out_as_it_was_said(
    scripted: Installation, somebody: tuple[Person, str], data: st.DataObject
) -> None:
    person, corpus = somebody
    said = data.draw(st.lists(SAID, min_size=1, max_size=12))
    async with asking(person, corpus, scripted.model.play(*said)) as stream:
        events = await stream.rest()
    check_grammar(events)
    final = next(event for event in events if event.type == "message.final")
    kept = [piece.replace("\0", "\ufffd") for piece in said]  # NUL alone cannot be stored
    assert final.data["data"]["text"] == "".join(kept)
    assert [event.data["data"]["delta"] for event in events if event.type == "token.delta"] == kept


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), st.recursive(st.one_of(st.text(), st.integers(-(2**53), 2**53), st.none()), st.lists, max_leaves=8)))
def test_another_parser_reads_what_we_frame(payload: dict[str, object]) -> None:
    decoder = httpx_sse._decoders.SSEDecoder()
    text = frame("token.delta", "run_1.2", payload)
    seen = [event for line in text.split("\n")[:-1] if (event := decoder.decode(line)) is not None]
    assert [(event.id, event.event, event.json()) for event in seen] == [("run_1.2", "token.delta", payload)]
    assert [event.data for event in parse_events(text)] == [payload]


async def test_a_whole_run_reads_the_same_with_another_parser(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    question = scripted.model.play("one\r\n\r\ndata: two\n\n", "\u2028three ", "[1].")
    body = {"session_id": new_id("s"), "corpus_id": corpus, "message": question}
    async with httpx_sse.aconnect_sse(person.client, "POST", "/v1/run", json=body) as source:
        events = [event async for event in source.aiter_sse()]
    ours = parse_events((await person.get(f"/v1/runs/{events[0].json()['data']['run_id']}/events")).text)
    assert [(event.id, event.event, event.json()) for event in events] == [(event.id, event.type, event.data) for event in ours]
    assert events[-2].json()["data"]["text"] == "one\r\n\r\ndata: two\n\n\u2028three [1]."


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([ModelError(ErrorCode.VERTEX_AUTH_ERROR, "The model refused the credential.", "auth")], "VERTEX_AUTH_ERROR"),
        (["half an ", ModelError(ErrorCode.INTEGRATION_UNAVAILABLE, "The model went away.", "broken")], "INTEGRATION_UNAVAILABLE"),
        ([ValueError("a bug, with words of a document in it")], "INTERNAL_ERROR"),
        (["half ", "an ", KeyError("bug")], "INTERNAL_ERROR"),
        (["half ", ConnectionResetError()], None),
        ([TimeoutError()], "INTERNAL_ERROR"),
    ],
)  # fmt: skip
async def test_a_model_that_fails_ends_the_run_with_one_error_and_done(
    scripted: Installation, steps: list[object], code: str | None
) -> None:
    person, corpus = await scripted.asker()
    async with asking(person, corpus, scripted.model.play(*steps)) as stream:  # type: ignore[arg-type]  # parametrised
        events = await stream.rest()
    check_grammar(events, stream.response.headers["X-Request-Id"])
    assert code_of(events) in set(ErrorCode)
    assert code in (None, code_of(events))
    assert "words of a document" not in stream.text
    receipt = await scripted.receipt(person, stream.run_id)
    assert (receipt["state"], receipt["error_code"]) == ("failed", code_of(events))
    # The session is as it was: the next run finds it in order.
    assert scripted.model.open == 0


async def test_a_failed_run_leaves_the_session_usable_and_empty(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    session = new_id("s")
    async with asking(person, corpus, scripted.model.play("half ", ValueError()), session_id=session) as stream:
        await stream.rest()
    events = await person.run(corpus, "Who is the lighthouse keeper?", session_id=session)
    check_grammar(events)
    assert events[-2].type == "message.final"
    assert [message.role for message in scripted.model.prompts[-1].messages] == ["system", "user"]


async def test_with_debug_events_the_stream_says_what_was_found_and_only_of_what_may_be_seen(servers: Servers) -> None:
    async with installation(servers, DEBUG_EVENTS="true") as held:
        person, corpus = await held.asker()
        hidden = await held.api.person("editor", person.tenant)
        await hidden.text(corpus, "The keeper of the lighthouse is somebody whom only the editor knows.")
        (document,) = [one["id"] for one in (await person.get("/v1/documents")).json()["data"]]
        async with asking(person, corpus, "Who is the lighthouse keeper?") as stream:
            events = await stream.rest()
        check_grammar(events)
        assert [event.type for event in events][1] == "debug.retrieval"
        found = events[1].data["data"]
        assert {hit["document_id"] for hit in found["hits"]} == {document}
        assert found["num_hits"] == len(found["hits"]) > 0
        assert set(found["hits"][0]) == {"chunk_id", "document_id", "score", "bm25", "cosine"}


async def test_a_model_that_is_not_configured_ends_the_run_after_its_retrieval(servers: Servers) -> None:
    unset = {"GOOGLE_CLOUD_PROJECT": "", "GOOGLE_CLOUD_LOCATION": "", "VERTEX_LOCATION": ""}
    unready = servers.with_env(LLM_PROVIDER="vertex", DEBUG_EVENTS="true", INGEST_EXECUTION_MODE="inline", **unset)
    async with serving(unready) as (app, url):
        api = Api(servers, app, url)
        person = await api.person()
        corpus = await person.corpus()
        await person.text(corpus, FACTS)
        async with asking(person, corpus, "Who is the lighthouse keeper?") as stream:
            events = await stream.rest()
        check_grammar(events)
        assert [event.type for event in events] == ["request.accepted", "debug.retrieval", "error", "done"]
        assert code_of(events) == "VERTEX_CONFIG_MISSING"
        receipt = (await person.get(f"/v1/runs/{run_id_of(events)}")).json()["data"]
        assert (receipt["state"], receipt["error_code"]) == ("failed", "VERTEX_CONFIG_MISSING")
        assert receipt["question"] == "Who is the lighthouse keeper?"
        await api.close()


async def test_heartbeats_are_ordinary_events_that_a_replay_has_too(servers: Servers) -> None:
    async with installation(servers, RUN_SSE_HEARTBEAT_S="0.2") as quick:
        person, corpus = await quick.asker()
        release = asyncio.Event()
        async with asking(person, corpus, quick.model.play("a ", release, "b [1].")) as stream:
            while sum(event.type == "heartbeat" for event in stream.events) < 2:
                await stream.read(len(stream.events) + 1)
            release.set()
            events = await stream.rest()
        check_grammar(events)
        beat = next(event for event in events if event.type == "heartbeat")
        assert set(beat.data) == {"ts", "request_id", "seq"}
        assert (await person.get(f"/v1/runs/{stream.run_id}/events")).text == stream.text
