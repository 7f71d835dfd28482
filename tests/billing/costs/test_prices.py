"""Which price is in force at an instant, and what use costs by it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusrag.billing.costs.metering import Metered, priced, total
from nexusrag.billing.costs.prices import BUILT_IN, Price, Prices, book
from nexusrag.kernel import money
from nexusrag.settings.costs import CostSettings

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOURS = st.integers(-1000, 1000).map(lambda hours: NOW + timedelta(hours=hours))


def price(rate: Any, component: str = "llm", provider: str = "openai", rate_type: str = "per_1k_tokens", **changes: Any) -> Price:
    fields = {"effective_from": NOW - DAY, **changes}
    return Price(f"price_{provider}_{component}_{rate}", "v", provider, component, rate_type, Decimal(str(rate)), **fields)


def prices(*own: Price, platform: tuple[Price, ...] = (), estimated_token: str = "1") -> Prices:
    return Prices(book(own), book((*BUILT_IN, *platform)), Decimal(estimated_token))


def costs(held: Prices, **used: Any) -> list[Any]:
    fields = {"component": "llm", "provider": "openai", **used}
    return [(line.rate_type, line.quantity, line.usd, line.estimated) for line in priced(held, [Metered(**fields)], NOW)]


@given(st.lists(HOURS, min_size=2, max_size=12, unique=True), HOURS, st.randoms())
def test_of_prices_that_follow_each_other_the_one_whose_period_it_is_counts(cuts: list[datetime], at: datetime, chance: Any) -> None:
    cuts.sort()
    row = [price(number, effective_from=start, effective_to=end) for number, (start, end) in enumerate(pairwise(cuts), 1)]
    shuffled = row[:]
    chance.shuffle(shuffled)
    expected = [one for one in row if one.effective_from <= at and (one.effective_to is None or at < one.effective_to)]
    found = prices(*shuffled).at("llm", "openai", "m", "per_1k_tokens", at)
    assert found == (expected[0] if expected else None)


@given(st.permutations([price(rate, effective_from=NOW - rate * DAY) for rate in range(1, 6)]))
def test_the_choice_does_not_depend_on_the_order_of_rows_even_where_periods_overlap(row: list[Price]) -> None:
    found = prices(*row).at("llm", "openai", None, "per_1k_tokens", NOW)
    assert found is not None
    assert found.rate_usd == 1


def test_the_tenants_own_comes_first_then_the_model_then_the_side() -> None:
    ladder = [
        price(6, "llm"), price(5, "llm.input"), price(4, "llm", "openai/gpt"), price(3, "llm.input", "openai/gpt"),
    ]  # fmt: skip
    shared = (price(8, "llm.input", "openai/gpt"), price(9))
    for count in range(len(ladder) + 1):
        held = prices(*ladder[:count], platform=shared)
        found = held.at("llm.input", "openai", "gpt", "per_1k_tokens", NOW)
        assert found is not None
        assert found.rate_usd == (ladder[count - 1].rate_usd if count else 8)
    assert prices(platform=shared).at("llm.output", "openai", "gpt", "per_1k_tokens", NOW) == shared[1]
    # A model that names its provider by itself.
    own = price(1, "embedding", "openai/small")
    assert prices(own).at("embedding", "openai", "openai/small", "per_1k_tokens", NOW) == own


@pytest.mark.parametrize(("active", "starts", "ends"), [(False, -1, None), (True, 1, None), (True, -2, -1), (True, -1, 0)])
def test_what_is_not_in_force_does_not_count(active: bool, starts: int, ends: int | None) -> None:
    one = price(1, active=active, effective_from=NOW + starts * DAY, effective_to=None if ends is None else NOW + ends * DAY)
    assert prices(one).at("llm", "openai", None, "per_1k_tokens", NOW) is None


def test_what_runs_here_is_internal_unless_it_has_a_price_of_its_own() -> None:
    for provider in ("extractive", "local", "local_pgvector", "fake", "installation"):
        assert prices(price(2, provider="internal")).at("llm", provider, None, "per_1k_tokens", NOW) is not None
    assert prices(price(2, provider="internal")).at("llm", "openai", None, "per_1k_tokens", NOW) is None
    assert costs(prices(price(2, provider="internal"), price(3, provider="fake")), provider="fake", input_tokens=1000)[0][2] == 3


def test_input_and_output_are_lines_of_their_own() -> None:
    held = prices(price("0.15", "llm.input"), price("0.6", "llm.output"))
    assert costs(held, input_tokens=2000, output_tokens=500) == [
        ("per_1k_input_tokens", Decimal(2000), Decimal("0.3"), False), ("per_1k_output_tokens", Decimal(500), Decimal("0.3"), False),
    ]  # fmt: skip


def test_without_a_price_use_is_noted_at_nothing_and_as_a_guess() -> None:
    (line,) = priced(prices(), [Metered(component="embedding", provider="openai", input_tokens=7)], NOW)
    assert (int(line.usd), line.rate_usd, line.price_id, line.estimated, int(line.quantity)) == (0, None, None, True, 7)
    assert costs(prices(), provider="extractive", input_tokens=5, output_tokens=5) == [
        ("per_1k_input_tokens", 5, 0, False), ("per_1k_output_tokens", 5, 0, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("used", "rate_type", "expected"),
    [
        ({"component": "tts", "characters": 300}, "per_char", "600"),
        ({"component": "tts", "characters": 300}, "per_second", "40"),
        ({"component": "tts", "characters": 300, "seconds": Decimal("12.5")}, "per_second", "25"),
        ({"component": "retrieval"}, "per_request", "2"),
        ({"component": "storage", "stored_bytes": 2_500_000}, "per_mb", "5"),
        ({"component": "embedding", "input_tokens": 250, "requests": 3}, "per_request", "6"),
        ({"component": "llm", "input_tokens": 250, "output_tokens": 5, "requests": 3}, "per_request", "6"),
    ],
)
def test_each_measure_has_its_price(used: dict[str, Any], rate_type: str, expected: str) -> None:
    lines = priced(prices(price(2, used["component"], rate_type=rate_type)), [Metered(provider="openai", **used)], NOW)
    assert total(lines) == Decimal(expected)
    guessed = rate_type == "per_second" and "seconds" not in used
    assert {line.estimated for line in lines} == {guessed}


def test_several_measures_of_one_component_add_up() -> None:
    held = prices(price(1), price("0.25", rate_type="per_request"))
    assert total(priced(held, [Metered(component="llm", provider="openai", input_tokens=500, output_tokens=500)], NOW)) == Decimal("1.25")


@pytest.mark.parametrize(("estimated_token", "counted"), [("1", 101), ("2", 202), ("0.5", 51), ("0", 0)])
def test_estimated_tokens_count_as_the_installation_says(estimated_token: str, counted: int) -> None:
    held = prices(price(1), estimated_token=estimated_token)
    assert costs(held, input_tokens=101, estimated=True)[0] == ("per_1k_input_tokens", counted, Decimal(counted) / 1000, True)
    assert costs(held, input_tokens=101)[0] == ("per_1k_input_tokens", 101, Decimal("0.101"), False)


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), max_size=20), st.decimals(0, 100, places=12))
def test_lines_add_up_to_what_all_of_it_costs(used: list[tuple[int, int]], rate: Decimal) -> None:
    lines = priced(
        prices(price(rate)), [Metered(component="llm", provider="openai", input_tokens=i, output_tokens=o) for i, o in used], NOW
    )
    assert total(lines) == sum((money.times(rate, Decimal(count), 1000) for pair in used for count in pair), Decimal(0))
    assert all(line.usd >= 0 for line in lines)


@pytest.mark.parametrize(
    "value",
    [
        "{", "{}", "[1]", '[{"provider":"p"}]', '[{"provider":"p","component":"llm","rate_type":"per_moon","rate_value_usd":1}]',
        '[{"provider":"p","component":"llm","rate_type":"per_mb","rate_value_usd":-1}]',
        '[{"provider":"","component":"llm","rate_type":"per_mb","rate_value_usd":1}]',
        '[{"provider":"p","component":"llm","rate_type":"per_mb","rate_value_usd":"x"}]',
    ],
)  # fmt: skip
def test_platform_prices_that_cannot_be_read_are_refused_at_the_start(value: str) -> None:
    with pytest.raises(ValueError, match="cost_platform_prices"):
        CostSettings(cost_platform_prices=value)


def test_platform_prices_are_exact() -> None:
    settings = CostSettings(
        cost_platform_prices='[{"provider":"openai","component":"llm","rate_type":"per_1k_tokens","rate_value_usd":0.00015}]'
    )
    assert [entry["rate_value_usd"] for entry in settings.platform_prices] == [Decimal("0.00015")]
