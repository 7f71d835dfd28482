"""Times that clients give: those at the ends of the calendar as well are stored, shown and counted with."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from nexusrag.web.times import Time
from tests.support.api import Api

TIME: TypeAdapter[datetime] = TypeAdapter(Time)
LATEST = ["9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999-01:00", "9999-12-31T23:59:59Z"]
EARLIEST = ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:00"]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("2030-01-01T01:00:00+01:00", datetime(2030, 1, 1, tzinfo=UTC)),
        *((given, datetime(9999, 12, 30, tzinfo=UTC)) for given in LATEST),
        *((given, datetime(1, 1, 2, tzinfo=UTC)) for given in EARLIEST),
    ],
)
def test_a_time_is_taken_in_utc_and_within_the_calendar(given: str, taken: datetime) -> None:
    time = TIME.validate_python(given)
    assert (time, time.tzinfo) == (taken, UTC)


@pytest.mark.parametrize("given", ["2030-01-01T00:00:00", "soon", ""])
def test_what_has_no_zone_is_no_time(given: str) -> None:
    with pytest.raises(ValidationError):
        TIME.validate_python(given)


@pytest.mark.parametrize("given", LATEST + EARLIEST)
async def test_whatever_takes_a_time_takes_the_first_and_the_last(api: Api, given: str) -> None:
    admin = await api.person()
    key = (await admin.post("/v1/self-serve/api-keys", json={"role": "reader"})).json()["data"]["key_id"]
    corpus = await admin.corpus()
    granted: dict[str, Any] = {"principal_type": "role", "principal_id": "reader", "permission": "read", "expires_at": given}
    past = given in EARLIEST
    for answer in (
        await admin.patch(f"/v1/admin/api-keys/{key}", json={"expires_at": given}),
        await admin.get("/v1/admin/api-keys"),
        await admin.get("/v1/ui/documents", params={"created_from": given}),
        await admin.get("/v1/ui/documents", params={"created_to": given}),
        await admin.post(f"/v1/admin/authz/corpora/{corpus}/permissions", json=granted),
        await admin.get(f"/v1/admin/authz/corpora/{corpus}/permissions"),
    ):
        assert answer.status_code in (200, 201) or (past and answer.status_code == 422), answer.text
