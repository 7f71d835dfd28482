"""Chargeback reports: they equal the ledger to the last place, are kept as they were made, and are safe to open."""

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusrag.billing.costs.service.chargeback import broken_down
from nexusrag.billing.costs.sheet import cell, sheet
from nexusrag.billing.ledger.entries import Caps
from nexusrag.billing.ledger.facade import Reservation, reserve
from nexusrag.infra.database import Database
from nexusrag.kernel import clock, money
from nexusrag.kernel.ids import new_id
from tests.billing.costs.support import REPORTS, line, spend
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, rows

GENERATE = "/v1/admin/costs/chargeback/generate"
LATEST = "/v1/self-serve/costs/chargeback/latest"
INVALID = ("COST_CHARGEBACK_RANGE_INVALID", 422)
MISSING = ("COST_CHARGEBACK_REPORT_NOT_FOUND", 404)
MAY = datetime(2025, 5, 1, tzinfo=UTC)
JUNE = datetime(2025, 6, 1, tzinfo=UTC)
MICRO = Decimal("0.000001")
USD = st.decimals(0, 1000, places=12)
NAMES = st.sampled_from(["a", "b", "c"])


async def report(person: Person, start: datetime = MAY, end: datetime = JUNE) -> Any:
    answer = await person.post(GENERATE, params={"period_start": start.isoformat(), "period_end": end.isoformat()})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def row(usd: Decimal, names: tuple[str, ...]) -> dict[str, Any]:
    fields = dict(zip(("component", "provider", "model", "rate_type", "route_class", "user_id", "credential_id"), names, strict=True))
    return {**fields, "quantity": Decimal(3), "usd": usd, "estimated_usd": None, "unpriced": None}


@given(st.dictionaries(st.tuples(*[NAMES] * 7), USD, max_size=40))
def test_every_part_of_a_report_adds_up_to_its_total(spending: dict[tuple[str, ...], Decimal]) -> None:
    found = [row(usd, names) for names, usd in spending.items()]
    total = sum(spending.values(), Decimal(0))
    parts = broken_down(found, total, True)
    assert sum((Decimal(one["usd_exact"]) for one in parts["lines"]), Decimal(0)) == total == Decimal(parts["total_usd_exact"])
    for amounts in ([one["usd"] for one in parts["lines"]], *(list(parts[f"by_{name}"].values()) for name in
        ("component", "provider", "route_class", "user", "key"))):  # fmt: skip
        assert sum((Decimal(str(amount)) for amount in amounts), Decimal(0)) == money.shown(total)


async def test_a_report_equals_the_ledger_exactly(api: Api) -> None:
    admin = await api.person()
    colleague = await api.person("reader", admin.tenant)
    amounts = [Decimal(number) / 7 for number in range(1, 60)]
    for number, amount in enumerate(amounts):
        who = {"user_id": colleague.user_id, "credential_id": colleague.key_id} if number % 3 else {}
        usd = str(money.exact(amount))
        at = MAY + timedelta(hours=12 * number + 1) if number < 58 else JUNE - timedelta(microseconds=1)
        await spend(api, admin, line(usd, ("llm", "embedding")[number % 2], f"p{number % 4}"), at=at, **who)
    await spend(api, admin, line("500"), at=JUNE)
    await spend(api, admin, line("500"), at=MAY - timedelta(microseconds=1))
    await spend(api, await api.person(), line("500"), at=MAY)
    made = await report(admin)
    (held,) = await rows(
        api,
        "select sum(l.usd) as usd, min(u.usd) as month from ledger_lines l join usage_periods u on u.tenant_id = l.tenant_id "
        "and u.period = 'month' and u.starts_on = $2 where l.tenant_id = $1 and l.at >= $3 and l.at < $4",
        admin.tenant, MAY.date(), MAY, JUNE,
    )  # fmt: skip
    (kept,) = await rows(api, "select total_usd from chargeback_reports where id = $1", made["id"])
    assert kept["total_usd"] == held["usd"] == held["month"]
    assert Decimal(str(made["total_usd"])) == money.shown(held["usd"])
    breakdown = made["breakdown_json"]
    assert sum(Decimal(one["usd_exact"]) for one in breakdown["lines"]) == held["usd"]
    assert set(breakdown["by_user"]) == {admin.user_id, colleague.user_id}
    assert breakdown["complete"] is True
    assert (await admin.get("/v1/admin/costs/spend/summary", params={"year_month": "2025-05"})).json()["data"]["total_usd"] == made[
        "total_usd"
    ]
    (event,) = await audited(api, admin.tenant, "cost.chargeback.generated")
    assert event["resource_id"] == made["id"]


async def test_reports_are_kept_as_they_were_made(api: Api) -> None:
    admin = await api.person()
    await spend(api, admin, line("1"), at=MAY)
    first = await report(admin)
    assert (first["currency"], first["generated_by"], first["period_start"]) == ("USD", admin.user_id, "2025-05-01T00:00:00Z")
    await spend(api, admin, line("2"), at=MAY)
    second = await report(admin)
    assert [first["total_usd"], second["total_usd"]] == [1, 3]
    assert (await admin.get(f"{REPORTS}/{first['id']}")).json()["data"] == first
    assert (await admin.get(LATEST)).json()["data"] == second
    items = (await admin.get(REPORTS)).json()["data"]["items"]
    assert [item["id"] for item in items] == [second["id"], first["id"]]
    assert items[0]["breakdown_json"]["by_component"] == {"llm": 3}
    assert "lines" not in items[0]["breakdown_json"]


async def test_a_report_over_work_under_way_or_time_to_come_says_that_it_is_not_complete(api: Api) -> None:
    admin = await api.person()
    now = clock.now()
    assert (await report(admin, now - timedelta(days=1), now + timedelta(days=1)))["breakdown_json"]["complete"] is False
    async with api.resources.get(Database).work(admin.tenant) as work:
        held = Reservation(
            subject=new_id("run"), route_class="run", units=3, tokens=1, usd=Decimal(1), lasts=timedelta(hours=1), user_id=None,
            credential_id=None,
        )  # fmt: skip
        await reserve(work, held, Caps(), now - timedelta(hours=2))
    made = await report(admin, now - timedelta(hours=3), now - timedelta(hours=1))
    assert (made["total_usd"], made["breakdown_json"]["complete"]) == (0, False)
    assert (await report(admin, now - timedelta(hours=9), now - timedelta(hours=8)))["breakdown_json"]["complete"] is True


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2025-05-01", "2025-05-01"), ("2025-06-01", "2025-05-01"), ("yesterday", "2025-05-01"), ("2025-05-01", ""),
        ("2025-02-30", "2025-05-01"), ("1900-01-01", "2025-05-01"), ("2025-05-01T00:00:00+99:00", "2025-06-01"),
        ("2025-05-01T02:00:00+02:00", "2025-05-01T00:00:00Z"),
    ],
)  # fmt: skip
async def test_a_period_that_is_none_is_refused(api: Api, start: str, end: str) -> None:
    admin = await api.person()
    assert error_of(await admin.post(GENERATE, params={"period_start": start, "period_end": end})) == INVALID


@pytest.mark.parametrize("start", ["2025-05-01", "2025-05-01T00:00:00", "2025-05-01T02:00:00%2B02:00", "2025-05-01T02:00:00+02:00"])
async def test_a_period_is_read_in_the_usual_forms(api: Api, start: str) -> None:
    admin = await api.person()
    answer = await admin.post(f"{GENERATE}?period_start={start}&period_end=2025-06-01T00:00:00Z")
    assert answer.json()["data"]["period_start"] == "2025-05-01T00:00:00Z"


async def test_a_period_may_end_where_the_calendar_does(api: Api) -> None:
    made = await (await api.person()).post(GENERATE, params={"period_start": "9999-12-01", "period_end": "9999-12-31T23:59:59Z"})
    assert (made.status_code, made.json()["data"]["breakdown_json"]["complete"]) == (200, False), made.text


async def test_nobody_finds_another_tenants_reports(api: Api) -> None:
    admin, other = await api.person(), await api.person()
    made = await report(admin)
    for path in (f"{REPORTS}/{made['id']}", f"{REPORTS}/{made['id']}.csv", LATEST, f"{REPORTS}/made-up"):
        assert error_of(await other.get(path)) == MISSING
    assert (await other.get(REPORTS)).json()["data"]["items"] == []


async def test_a_report_is_downloaded_as_a_sheet(api: Api) -> None:
    admin = await api.person()
    await spend(api, admin, line("0.000000000001"), line("2", "tts", "=cmd|' /C calc'!A0", model="@m"), at=MAY)
    made = await report(admin)
    answer = await admin.get(f"{REPORTS}/{made['id']}.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="chargeback-2025-05-01-2025-06-01.csv"'
    first, second, total = csv.DictReader(io.StringIO(answer.text))
    assert [first["usd"], second["usd"], total["usd"]] == ["0.000000000001", "2.000000000000", "2.000000000001"]
    assert [first["component"], second["provider"], second["model"]] == ["llm", "'=cmd|' /C calc'!A0", "'@m"]
    assert (total["component"], first["user_id"], first["currency"]) == ("total", admin.user_id, "USD")


@given(st.text(max_size=40))
def test_no_cell_begins_a_formula_and_every_sheet_reads_as_it_was_written(text: str) -> None:
    made = cell(text)
    assert made.lstrip()[:1] not in {"=", "+", "-", "@"}
    assert made[:1] not in {"\t", "\r", "\n"}
    assert made.removeprefix("'") == text or made == text
    one = dict.fromkeys(("component", "provider", "model", "rate_type", "route_class", "user_id", "key_id"), text)
    lines = [{**one, "quantity": "1", "usd_exact": "0.5", "estimated": False, "priced": True}]
    written = sheet(
        {"currency": "USD", "period_start": MAY, "period_end": JUNE, "breakdown_json": {"lines": lines, "total_usd_exact": "0.5"}}
    )
    (found, _) = csv.DictReader(io.StringIO(written, newline=""))
    assert found["provider"] == made
    assert found["usd"] == "0.5"
