"""Dollars are exact where they are kept, and what is shown adds up."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from nexusrag.kernel import money

MICRO = Decimal("0.000001")
AMOUNTS = st.decimals(0, 10**9, places=12)
RATES = st.decimals(0, 10**6, places=12)


@given(RATES, st.integers(0, 10**9), st.sampled_from([1, 1000, 1_000_000]))
def test_a_price_times_a_quantity_is_exact_to_a_pico_dollar(rate: Decimal, quantity: int, per: int) -> None:
    cost = money.times(rate, Decimal(quantity), per)
    assert abs(cost * per - rate * quantity) * 2 <= Decimal("1e-12") * per
    assert cost.as_tuple().exponent == -12


@given(st.dictionaries(st.integers(), AMOUNTS, max_size=60))
def test_parts_that_are_shown_add_up_to_the_total_that_is_shown(parts: dict[int, Decimal]) -> None:
    total = sum(parts.values(), Decimal(0))
    shown = money.apportioned(parts, total)
    assert shown.keys() == parts.keys()
    assert sum(shown.values(), Decimal(0)) == money.shown(total)
    assert all(abs(shown[key] - parts[key]) < MICRO for key in parts)


@given(AMOUNTS)
def test_text_has_six_places_and_no_power_of_ten(amount: Decimal) -> None:
    whole, _, places = money.text(amount).partition(".")
    assert whole.isdecimal()
    assert len(places) == 6
    assert abs(Decimal(money.text(amount)) - amount) * 2 <= MICRO


def test_halves_go_to_the_even_neighbour() -> None:
    assert [money.text(Decimal(amount)) for amount in ("0.0000005", "0.0000015", "0.0000025")] == ["0.000000", "0.000002", "0.000002"]
