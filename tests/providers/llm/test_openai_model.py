"""The OpenAI protocol against a real server with real faults."""

import asyncio
import json
from typing import Any

import pytest
from pydantic import SecretStr

from nexusrag.infra.outbound import Outbound
from nexusrag.kernel.errors import ErrorCode
from nexusrag.providers.llm.openai import OpenAIModel
from nexusrag.providers.llm.port import Delta, Message, ModelError, Prompt, Usage
from nexusrag.settings.llm import LlmSettings
from tests.providers.llm.helpers import SECRET_WORDS, prompt, read, until
from tests.support.openai_stand_in import (
    DONE,
    FINISH,
    WORDS,
    OpenAIStandIn,
    delta,
    document,
    endless,
    event,
    hang,
    raw,
    refuse,
    talk,
    usage,
    whole,
)

KEY = "sk-canary-5e1f"


def model(server: OpenAIStandIn, outbound: Outbound, **given: Any) -> OpenAIModel:
    base = {"llm_provider": "openai", "llm_base_url": server.url, "llm_model": "tiny", "openai_api_key": SecretStr(KEY)}
    return OpenAIModel(LlmSettings(**{**base, **given}), outbound)


def clean(failure: ModelError) -> None:
    """Nothing of the key, the prompt or the server's prose is in what clients are told."""
    told = f"{failure.message} {failure.details} {failure.headers} {failure!r}"
    assert KEY not in told
    assert SECRET_WORDS not in told
    assert "walrus" not in told


async def test_deltas_come_as_they_are_said_and_usage_last(server: OpenAIStandIn, outbound: Outbound) -> None:
    pieces, used = await read(model(server, outbound))
    assert pieces == WORDS
    assert used == Usage(11, 5, estimated=False, finish_reason="stop")
    sent = server.requests[0]
    assert (sent["model"], sent["stream"], sent["stream_options"], sent["max_tokens"], sent["temperature"]) == (
        "tiny",
        True,
        {"include_usage": True},
        64,
        0.0,
    )
    assert sent["messages"][1] == {"role": "user", "content": prompt().question}
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_without_a_key_no_authorization_is_sent(server: OpenAIStandIn, outbound: Outbound) -> None:
    await read(model(server, outbound, openai_api_key=SecretStr("")))
    assert "Authorization" not in server.headers[0]


async def test_usage_is_estimated_when_the_model_does_not_say(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [talk(["abcd", "efghi"], with_usage=False)]
    _, used = await read(model(server, outbound))
    asked = prompt()
    assert used == Usage(sum(-(-len(message.content) // 4) for message in asked.messages), 3, estimated=True)


async def test_a_server_that_does_not_stream_is_understood(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [whole("All at once. [1]")]
    assert await read(model(server, outbound)) == (["All at once. [1]"], Usage(11, 5, estimated=False))


async def test_the_connection_is_used_again(server: OpenAIStandIn, outbound: Outbound) -> None:
    talking = model(server, outbound)
    for _ in range(3):
        await read(talking)
    connector = outbound.session().connector
    assert connector is not None
    assert sum(len(pool) for pool in connector._conns.values()) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_events_cut_anywhere_give_the_same_text(server: OpenAIStandIn, outbound: Outbound, size: int) -> None:
    said = ["Grüße ", "👩‍👩‍👧 ", "日本語", " line\nbreak", ' "data: x"', "\r\n\r\n"]
    stream = b": keep-alive\r\n\r\nevent: x\nid: 1\n" + b"".join(
        b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False).encode() + b"\r\n\r\n" for text in said
    )
    stream += b"retry: 5\ndata:" + FINISH[6:] + b":\n" + usage() + DONE
    server.behaviours = [raw(*(stream[start : start + size] for start in range(0, len(stream), size)))]
    pieces, used = await read(model(server, outbound))
    assert pieces == said
    assert not used.estimated


async def test_broken_unicode_is_replaced(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [
        raw(
            b'data: {"choices":[{"delta":{"content":"a\\ud800b"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"c\xff\xfed"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"\\ud83d\\ude00"}}]}\n\n',
            FINISH,
            DONE,
        )
    ]
    pieces, _ = await read(model(server, outbound))
    assert pieces == ["a�b", "c��d", "😀"]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (raw(delta("a"), b"data: {not json\n\n"), "broken"),
        (raw(delta("a"), b"data: 5\n\n"), "broken"),
        (raw(delta("a"), b"data: " + b"[" * 100_000 + b"\n\n"), "broken"),
        (raw(delta("a"), b"data: " + b"x" * 10_000_000), "broken"),
        (raw(delta("a"), b"data: y\n" * 300_000), "broken"),
        (raw(delta("a"), event({"error": {"message": f"{KEY} {SECRET_WORDS}", "code": "server_error"}})), "broken"),
        (raw(delta("a"), event({"error": {"message": "x", "code": "rate_limit_exceeded"}})), "rate_limited"),
        (raw(delta("a"), cut=True), "unreachable"),
        (raw(delta("a")), "broken"),
        (raw(delta("a"), hang=True), "timeout"),
        (raw(delta("a"), b": still here\n\n", hang=True), "timeout"),
    ],
)
async def test_after_the_first_token_a_fault_is_an_error_and_nothing_is_asked_again(
    server: OpenAIStandIn, outbound: Outbound, behaviour: Any, reason: str
) -> None:
    server.behaviours = [behaviour]
    said = []
    with pytest.raises(ModelError) as failure:
        async for piece in model(server, outbound, llm_stall_timeout_s=0.3).stream(prompt()):
            said.append(piece)
    assert said == [Delta("a")]
    assert failure.value.reason == reason
    assert failure.value.code in (ErrorCode.SERVICE_UNAVAILABLE, ErrorCode.INTEGRATION_UNAVAILABLE)
    clean(failure.value)
    assert len(server.requests) == 1
    await until(lambda: server.open == 0)


@pytest.mark.parametrize(
    ("fault", "billed"),
    [
        (refuse(429), False),
        (refuse(429, headers={"Retry-After": "0"}), False),
        (refuse(500), False),
        (refuse(503), False),
        (raw(b"data: {not json\n\n"), True),
        (raw(event({"error": {"code": "server_error"}})), True),
        (raw(b"", cut=True), True),
        (document(b"", "text/event-stream"), True),
        (document(b"{}"), True),
        (document(b'{"error": {"code": "server_error"}}'), True),
    ],
)
async def test_before_the_first_token_a_passing_fault_is_asked_again_once(
    server: OpenAIStandIn, outbound: Outbound, fault: Any, billed: bool
) -> None:
    """What the second attempt took is not the whole bill where the first one may be on it."""
    server.behaviours = [fault]
    said, used = await read(model(server, outbound))
    assert (said, used.estimated) == (WORDS, billed)
    server.requests.clear()
    server.behaviours = [fault, fault]
    with pytest.raises(ModelError) as failure:
        await read(model(server, outbound))
    clean(failure.value)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, ErrorCode.INTEGRATION_UNAVAILABLE, "refused"),
        (401, ErrorCode.INTEGRATION_UNAVAILABLE, "auth"),
        (403, ErrorCode.INTEGRATION_UNAVAILABLE, "auth"),
        (404, ErrorCode.INTEGRATION_UNAVAILABLE, "refused"),
        (307, ErrorCode.INTEGRATION_UNAVAILABLE, "refused"),
    ],
)
async def test_a_lasting_refusal_is_not_asked_again(
    server: OpenAIStandIn, outbound: Outbound, status: int, code: ErrorCode, reason: str
) -> None:
    server.behaviours = [refuse(status, code="invalid_api_key")]
    with pytest.raises(ModelError) as failure:
        await read(model(server, outbound))
    assert (failure.value.code, failure.value.reason) == (code, reason)
    assert "invalid_api_key" in failure.value.message
    clean(failure.value)
    assert len(server.requests) == 1


async def test_a_long_retry_after_is_passed_on_instead_of_waited_for(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [refuse(429, headers={"Retry-After": "120"})]
    with pytest.raises(ModelError) as failure:
        await read(model(server, outbound))
    assert failure.value.headers == {"Retry-After": "120"}
    assert len(server.requests) == 1


async def test_parameters_that_a_model_refuses_are_left_out_from_then_on(server: OpenAIStandIn, outbound: Outbound) -> None:
    talking = model(server, outbound)
    server.behaviours = [refuse(400, param="max_tokens"), refuse(400, param="temperature"), refuse(400, param="stream_options")]
    await read(talking)
    await read(talking)
    assert len(server.requests) == 5
    for sent in server.requests[3:]:
        assert sent["max_completion_tokens"] == 64
        assert not {"max_tokens", "temperature", "stream_options"} & set(sent)


async def test_a_refused_parameter_is_known_by_prose_only_from_its_usual_wording(server: OpenAIStandIn, outbound: Outbound) -> None:
    unknown = b'{"error": {"message": "Unrecognized request argument supplied: stream_options", "param": null}}'
    server.behaviours = [document(unknown, status=400)]
    talking = model(server, outbound)
    await read(talking)
    assert "stream_options" not in server.requests[1]
    server.behaviours = [document(b'{"error": {"message": "too long: what is max_tokens?"}}', status=400)]
    with pytest.raises(ModelError):
        await read(talking)


async def test_a_model_that_never_begins_is_a_timeout(server: OpenAIStandIn, outbound: Outbound) -> None:
    for behaviour in (hang(), raw(hang=True), endless(b": ping\n\n", pause=0.02)):
        server.behaviours = [behaviour]
        with pytest.raises(ModelError) as failure:
            await read(model(server, outbound, llm_first_token_timeout_s=0.3))
        assert failure.value.reason == "timeout"
    assert len(server.requests) == 3
    await until(lambda: server.open == 0)


async def test_an_endless_answer_is_cut_at_its_limit_and_the_model_stopped(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [endless(delta("word " * 100), pause=0)]
    pieces, used = await read(model(server, outbound))
    assert sum(map(len, pieces)) == 64 * 32
    assert used.finish_reason == "length"
    await until(lambda: server.open == 0)


async def test_thoughts_without_end_run_into_the_total_limit(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [endless(event({"choices": [{"delta": {"reasoning_content": "hm"}}]}), pause=0.01)]
    with pytest.raises(ModelError) as failure:
        await read(model(server, outbound, llm_total_timeout_s=0.4, llm_stall_timeout_s=0.2, llm_first_token_timeout_s=0.2))
    assert failure.value.reason == "timeout"
    await until(lambda: server.open == 0)


async def test_closing_and_cancelling_stop_the_model(server: OpenAIStandIn, outbound: Outbound) -> None:
    server.behaviours = [raw(delta("a"), hang=True), raw(delta("a"), hang=True), hang()]
    stream = model(server, outbound).stream(prompt())
    assert await anext(stream) == Delta("a")
    await stream.aclose()
    await until(lambda: server.open == 0)
    for _ in range(2):
        reader = asyncio.create_task(read(model(server, outbound)))
        await until(lambda: server.open == 1)
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await until(lambda: server.open == 0)


async def test_an_address_outside_the_rules_names_the_setting(server: OpenAIStandIn) -> None:
    guarded = Outbound()
    with pytest.raises(ModelError, match="OUTBOUND_ALLOWED_NETWORKS") as failure:
        await read(model(server, guarded))
    await guarded.close()
    assert failure.value.reason == "config"
    assert server.requests == []


async def test_content_filter_and_unknown_endings_are_named(server: OpenAIStandIn, outbound: Outbound) -> None:
    for said, meant in (("length", "length"), ("content_filter", "content_filter"), ("eos", "other")):
        server.behaviours = [raw(delta("a"), event({"choices": [{"delta": {}, "finish_reason": said}]}), DONE)]
        assert (await read(model(server, outbound)))[1].finish_reason == meant


async def test_a_prompt_that_is_no_unicode_is_an_error_not_a_crash(server: OpenAIStandIn, outbound: Outbound) -> None:
    asked = Prompt((Message("user", "\ud800"),), "\ud800")
    with pytest.raises(ModelError):
        await read(model(server, outbound), asked)
