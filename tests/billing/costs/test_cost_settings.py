"""What operators set for the whole installation: prices for everybody, and whether budgets are held at all."""

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from nexusrag.billing.costs.facade import Metered
from tests.billing.costs.support import CATALOG, add_price, line, lines_for, set_budget, spend
from tests.support.api import Api
from tests.support.installation import Servers, serving

PLATFORM = '[{"provider":"openai","component":"llm.output","rate_type":"per_1k_tokens","rate_value_usd":0.0006}]'


@pytest.fixture(scope="module")
async def lenient(servers: Servers) -> AsyncIterator[Api]:
    """An installation that holds nobody to a budget, and has a price for everybody."""
    settings = servers.with_env(COST_GOVERNANCE_ENABLED="false", COST_PLATFORM_PRICES=PLATFORM, COST_ESTIMATOR_TOKEN_CHARS_RATIO="2")
    async with serving(settings) as (app, url):
        api = Api(servers, app, url)
        yield api
        await api.close()


async def test_a_platform_price_is_everybodys_until_they_have_their_own(lenient: Api) -> None:
    admin = await lenient.person()
    used = Metered(component="llm", provider="openai", model="gpt", output_tokens=1000)
    assert [one.usd for one in await lines_for(lenient, admin, used)] == [0, Decimal("0.0006")]
    listed = (await admin.get(CATALOG)).json()["data"]["items"]
    assert [one["rate_value_usd"] for one in listed if one["provider"] == "openai"] == [0.0006]
    await add_price(admin, rate_value_usd=0.5)
    assert [one.usd for one in await lines_for(lenient, admin, used)] == [0, Decimal("0.5")]
    assert [one.usd for one in await lines_for(lenient, await lenient.person(), used)] == [0, Decimal("0.0006")]


async def test_estimated_tokens_count_by_the_installations_ratio(lenient: Api) -> None:
    used = Metered(component="embedding", provider="local", input_tokens=10, estimated=True)
    assert [one.quantity for one in await lines_for(lenient, await lenient.person(), used)] == [20]


async def test_without_governance_nothing_is_told_and_nobody_is_stopped(lenient: Api) -> None:
    admin = await lenient.person()
    await set_budget(admin, monthly_budget_usd=0, enforce_hard_cap=True)
    await spend(lenient, admin, line("5"))
    corpus = await admin.corpus()
    events = await admin.run(corpus, "Is anybody there?")
    assert [event.type for event in events if event.type in ("cost.warn", "done")] == ["done"]
    assert "X-Cost-Status" not in (await admin.get("/v1/corpora")).headers
    assert (await admin.get("/v1/admin/costs/spend/summary")).json()["data"]["total_usd"] == 5
