"""What a budget says to what was spent."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusrag.billing.costs.budgets import Agreed, Budget, month_of
from nexusrag.billing.costs.stage import degrade
from nexusrag.settings.costs import CostSettings
from nexusrag.web.limits import Limits

USD = st.decimals(0, 10**6, places=6)


@given(USD, USD, st.decimals("0.01", 1, places=4), st.booleans(), st.sampled_from(["block", "degrade"]))
def test_the_status_follows_from_the_spending(
    limit: Decimal, spent: Decimal, ratio: Decimal, enforced: bool, mode: Literal["block", "degrade"]
) -> None:
    budget = Budget(limit, ratio, enforced, mode)
    beyond = {"block": "capped", "degrade": "degraded"}[mode]
    expected = beyond if enforced and spent >= limit else "warn" if spent >= limit * ratio else "ok"
    assert budget.status(spent) == expected
    assert budget.remaining(spent) == max(limit - spent, 0)
    assert budget.cap == (limit if enforced and mode == "block" else None)


@given(USD)
def test_without_a_budget_everything_is_fine(spent: Decimal) -> None:
    budget = Budget(None, Decimal("0.8"), True, "block")
    assert (budget.status(spent), budget.remaining(spent), budget.cap) == ("ok", None, None)


@pytest.mark.parametrize(("month", "limit"), [(date(2026, 2, 1), 5), (date(2026, 3, 1), 100), (date(2026, 1, 1), 100)])
def test_an_override_counts_in_its_month_alone(month: date, limit: int) -> None:
    agreed = Agreed(monthly_usd=Decimal(100), override_usd=Decimal(5), override_month=date(2026, 2, 1))
    assert agreed.in_month(month, Decimal("0.8"), "block").limit == limit


def test_what_is_not_set_is_the_installations() -> None:
    assert Agreed().in_month(date(2026, 1, 1), Decimal("0.7"), "degrade") == Budget(None, Decimal("0.7"), False, "degrade")
    agreed = Agreed(Decimal(1), Decimal("0.5"), True, "block")
    assert agreed.in_month(date(2026, 1, 1), Decimal("0.7"), "degrade") == Budget(Decimal(1), Decimal("0.5"), True, "block")


def test_months_begin_at_midnight_utc() -> None:
    assert month_of(datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC)) == date(2028, 2, 1)
    assert month_of(datetime(2028, 3, 1, tzinfo=UTC)) == date(2028, 3, 1)


def test_degrading_takes_audio_then_passages_then_outside_retrieval_then_length() -> None:
    limits = Limits(top_k=2)
    assert degrade(limits, CostSettings()) == ["audio", "top_k", "local_retrieval", "output_tokens"]
    assert limits == Limits(top_k=2, max_output_tokens=512, audio=False, local_only=True)  # nothing is given back
    limits = Limits()
    settings = CostSettings(cost_degrade_enable_tts_disable=False, cost_degrade_min_top_k=5, cost_degrade_max_output_tokens=99)
    assert degrade(limits, settings) == ["top_k", "local_retrieval", "output_tokens"]
    assert limits == Limits(top_k=5, max_output_tokens=99, audio=True, local_only=True)
