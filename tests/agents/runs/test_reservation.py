"""What is reserved for a run finds room for whatever it may be charged."""

from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nexusrag.agents.runs.metering import Meter, dollars
from nexusrag.billing.costs.prices import Price, Prices, book
from nexusrag.inference.gateway.facade import Usage
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
