"""A model behind its circuit breaker: when it is not asked, and what a try of a breaker is."""

from collections.abc import AsyncIterator

import pytest

from nexusrag.infra.integrations import Integrations
from nexusrag.infra.outbound import Outbound
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.llm.openai import OpenAIModel
from nexusrag.providers.llm.port import Delta, ModelError
from nexusrag.settings.llm import LlmSettings
from nexusrag.settings.outbound import OutboundSettings
from nexusrag.settings.resilience import ResilienceSettings
from tests.providers.llm.helpers import prompt, read
from tests.support.openai_stand_in import WORDS, OpenAIStandIn, delta, hang, raw, refuse


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    rules = ResilienceSettings(cb_failure_threshold=2, cb_half_open_trials=1, ext_retry_backoff_ms=1)
    out = Outbound(OutboundSettings(outbound_allowed_networks="127.0.0.0/8"), integrations=Integrations(rules))
    yield out
    await out.close()


@pytest.fixture
def model(server: OpenAIStandIn, outbound: Outbound) -> OpenAIModel:
    return OpenAIModel(LlmSettings(llm_provider="openai", llm_base_url=server.url), outbound)


def wait_out(outbound: Outbound) -> None:
    """Let the time of the open breaker be over now."""
    (known,) = outbound.integrations._breakers._known.values()
    known.local._until = 0


async def refused(model: OpenAIModel) -> None:
    with pytest.raises(ApiError) as failure:
        await read(model)
    assert failure.value.code is ErrorCode.INTEGRATION_UNAVAILABLE
    assert not isinstance(failure.value, ModelError)


async def opened(server: OpenAIStandIn, model: OpenAIModel) -> None:
    server.behaviours = [refuse(503), refuse(503)]
    with pytest.raises(ModelError):
        await read(model)
    server.requests.clear()


async def test_an_open_breaker_asks_nobody(server: OpenAIStandIn, model: OpenAIModel) -> None:
    await opened(server, model)
    await refused(model)
    assert server.requests == []


async def test_the_first_token_of_a_try_closes_it_for_everybody(server: OpenAIStandIn, outbound: Outbound, model: OpenAIModel) -> None:
    await opened(server, model)
    wait_out(outbound)
    server.behaviours = [raw(delta("a"), hang=True)]
    trying = model.stream(prompt())
    assert await anext(trying) == Delta("a")
    assert (await read(model))[0] == WORDS
    await trying.aclose()
    assert (await read(model))[0] == WORDS


async def test_a_try_is_made_once_and_its_failure_told(server: OpenAIStandIn, outbound: Outbound, model: OpenAIModel) -> None:
    await opened(server, model)
    wait_out(outbound)
    server.behaviours = [refuse(503)] * 2
    with pytest.raises(ModelError):
        await read(model)
    assert len(server.requests) == 1
    await refused(model)


async def test_a_try_that_is_left_makes_room_for_the_next(server: OpenAIStandIn, outbound: Outbound, model: OpenAIModel) -> None:
    await opened(server, model)
    wait_out(outbound)
    server.behaviours = [refuse(400)]
    with pytest.raises(ModelError):
        await read(model)  # a fault of ours says nothing about them
    assert (await read(model))[0] == WORDS


async def test_streams_that_break_off_count_and_are_not_asked_again(server: OpenAIStandIn, model: OpenAIModel) -> None:
    server.behaviours = [raw(delta("a"), cut=True), raw(delta("a"), cut=True), hang()]
    for _ in range(2):
        with pytest.raises(ModelError):
            await read(model)
    assert len(server.requests) == 2
    await refused(model)


async def test_a_prompt_that_cannot_be_sent_counts_against_nobody(server: OpenAIStandIn, model: OpenAIModel) -> None:
    for _ in range(5):
        with pytest.raises(ModelError):
            await read(model, prompt("\ud800"))
    assert (await read(model))[0] == WORDS
