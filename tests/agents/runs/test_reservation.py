"""What is reserved for a run finds room for whatever it may be charged."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nexusrag.agents.runs.metering import Meter, dollars
from nexusrag.agents.runs.prompts import FRAME_TOKENS
from nexusrag.billing.costs.prices import Price, Prices, book
from nexusrag.inference.gateway.facade import Gateway, Usage
from nexusrag.inference.slots.facade import ModelSlots
from nexusrag.kernel.ids import new_id
from nexusrag.providers.llm.port import Delta, Prompt
from tests.agents.scripted import Installation, ScriptedModel
from tests.support.behind import rows
from tests.support.installation import Servers

ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)


def meter(servers: Servers, rate_type: str, estimated_token: str = "1") -> Meter:
    """Of a tenant that pays a dollar for each, and nothing else."""
    price = Price("p", "v", "fake", "llm", rate_type, Decimal(1), ALWAYS)
    gateway = SimpleNamespace(prompt_tokens=100_000, model_name="fake")
    prices = Prices(own=book([price]), estimated_token=Decimal(estimated_token))
    settings = servers.with_env(LLM_PROVIDER="fake")
    return Meter(cast("Any", gateway), settings, cast("Any", SimpleNamespace(name="fake")), prices)


@pytest.mark.parametrize("estimated_token", ["0", "0.25", "1", "2"])
def test_figures_that_the_model_tells_fit_however_estimates_are_scaled(servers: Servers, estimated_token: str) -> None:
    asked = meter(servers, "per_1k_tokens", estimated_token)
    reserved = asked.most("Who?", [], 3, 500, audio=False)
    read = reserved.tokens - 500
    for estimated in (False, True):
        assert dollars(reserved) >= dollars(asked.of([Usage(read, 500, estimated=estimated)]))


def test_a_follow_up_may_ask_the_model_twice(servers: Servers) -> None:
    asked = meter(servers, "per_request")
    assert [dollars(asked.most("Who?", said, 3, 500, audio=False)) for said in ([], [("user", "The keeper.")])] == [1, 2]


@pytest.mark.parametrize(
    "question", ["灯台守は誰ですか", "灯台守は誰ですか、 Ada Moreau?", "Кто смотритель маяка?", "ใครเป็นคนดูแลประภาคาร", "🏝🗼?"]
)
def test_passages_are_reserved_for_in_the_script_of_the_question(servers: Servers, question: str) -> None:
    """Models take about a token for each character of such scripts; two for what is rarer."""
    asked = meter(servers, "per_1k_tokens")
    ingestion = asked.settings.ingestion
    beyond = sum(not character.isascii() for character in question)
    passage = (ingestion.chunk_size_chars + ingestion.chunk_overlap_chars) * beyond // len(question)
    assert asked.most(question, [], 3, 500, audio=False).tokens >= 500 + beyond + 3 * passage
    # A follow-up in English goes on with what was talked about before.
    said = [("user", question), ("assistant", question * 4)]
    assert asked.most("And who else?", said, 3, 500, audio=False).tokens >= 500 + 2 * 5 * beyond + 3 * passage


def test_of_plain_text_four_characters_are_reserved_for_as_a_token(servers: Servers) -> None:
    asked = meter(servers, "per_1k_tokens")
    ingestion = asked.settings.ingestion
    passages = 3 * -(-(ingestion.chunk_size_chars + ingestion.chunk_overlap_chars) // 4)
    assert asked.most("Who is the keeper?", [], 3, 500, audio=False).tokens == 500 + 5 + passages + FRAME_TOKENS
    asked.gateway.prompt_tokens = 1000  # type: ignore[misc]  # of a stand-in
    assert asked.most("Who is the keeper?", [], 3, 500, audio=False).tokens == 1500, "no prompt is longer than the window"


async def test_runs_in_japanese_keep_within_a_hard_cap_of_tokens(scripted: Installation) -> None:
    class Exact(ScriptedModel):
        """Tells a token for each character that it read and wrote."""

        async def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Usage, None]:
            yield Delta("灯台守はエイダ・モローです [1]。")
            yield Usage(sum(len(message.content) for message in prompt.messages), 18, estimated=False)

    api = scripted.api
    whole = api.resources.get(Gateway)
    person, corpus = await scripted.asker("".join(f"灯台守の{year}年の名前はエイダ・モローで、猫と本と一緒でした。" for year in range(300)))
    cap = 40_000
    operator = await api.operator()
    limited = await operator.patch(f"/v1/admin/quotas/{person.tenant}", json={"monthly_tokens_limit": cap, "hard_cap_enabled": True})
    assert limited.status_code == 200, limited.text
    api.resources.put(Gateway, Gateway(Exact(), scripted.settings, api.resources.get(ModelSlots)))
    body = {"corpus_id": corpus, "message": "灯台守は誰ですか", "top_k": 5}
    try:
        answers = await asyncio.gather(*(person.post("/v1/run", json={**body, "session_id": new_id("s")}) for _ in range(12)))
    finally:
        api.resources.put(Gateway, whole)
    assert {answer.status_code for answer in answers} == {200, 402}
    (month,) = await rows(api, "select tokens, held_tokens from usage_periods where tenant_id = $1 and period = 'month'", person.tenant)
    assert 0 < month["tokens"] + month["held_tokens"] <= cap
    found = await rows(api, "select tokens, held_tokens from ledger where tenant_id = $1 and route_class = 'run'", person.tenant)
    assert all(4000 < row["tokens"] <= row["held_tokens"] for row in found), "five long passages each"
