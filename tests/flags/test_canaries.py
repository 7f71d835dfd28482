"""Who is among the tenants of a canary: always the same ones, as many as were asked for, and never one less when it grows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusrag.flags.switches.held import Held
from nexusrag.kernel.switches import Rollout
from nexusrag.settings.rollouts import RolloutSettings
from tests.support.api import Api, error_of

PATH = "/v1/admin/rollouts/canary"
TENANTS = [f"tenant-{number}" for number in range(40_000)]
percentages = st.floats(0, 100, allow_nan=False)
tenants = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)


def at(percentage: float, rollout: Rollout = Rollout.TTS) -> Held:
    return Held(RolloutSettings(), stored={rollout: percentage})


@pytest.mark.parametrize("percentage", [5, 5.0, 0.5, 37, 95])
@pytest.mark.parametrize("rollout", list(Rollout))
def test_there_are_as_many_as_were_asked_for(rollout: Rollout, percentage: float) -> None:
    held = at(percentage, rollout)
    share = 100 * sum(held.includes(rollout, tenant) for tenant in TENANTS) / len(TENANTS)
    assert abs(share - percentage) < 1


@given(percentages, percentages, tenants)
def test_nobody_leaves_when_it_grows(one: float, other: float, tenant: str) -> None:
    smaller, larger = sorted((one, other))
    assert not at(smaller).includes(Rollout.TTS, tenant) or at(larger).includes(Rollout.TTS, tenant)


@given(tenants)
def test_nobody_is_in_none_and_everybody_in_all(tenant: str) -> None:
    assert not at(0).includes(Rollout.TTS, tenant)
    assert at(100).includes(Rollout.TTS, tenant)


def test_a_tenant_stays_where_it_is_in_every_release() -> None:
    """As SHA-256 of `rollout.tts`, a NUL and the id has them: another hash would give everybody's place to somebody else."""
    held = at(5)
    assert [tenant for tenant in TENANTS[:100] if held.includes(Rollout.TTS, tenant)] == SOME_OF_FIVE


SOME_OF_FIVE = [f"tenant-{number}" for number in (0, 10, 14, 30, 32, 42, 49, 77, 89)]


def test_each_canary_has_an_order_of_its_own() -> None:
    both = Held(RolloutSettings(), stored={Rollout.TTS: 5, Rollout.EXTERNAL_RETRIEVAL: 5})
    first, second = ({tenant for tenant in TENANTS if both.includes(rollout, tenant)} for rollout in Rollout)
    assert len(first & second) < len(first) / 5


@pytest.mark.parametrize(
    "body",
    [
        b'{"canary_percentages": {"rollout.tts": 101}}', b'{"canary_percentages": {"rollout.tts": -1}}',
        b'{"canary_percentages": {"rollout.tts": 100.0001}}', b'{"canary_percentages": {"rollout.tts": NaN}}',
        b'{"canary_percentages": {"rollout.tts": Infinity}}', b'{"canary_percentages": {"rollout.tts": 1e400}}',
        b'{"canary_percentages": {"rollout.tts": "5"}}', b'{"canary_percentages": {"rollout.tts": true}}',
        b'{"canary_percentages": {"rollout.tts": null}}', b'{"canary_percentages": {"rollout.video": 5}}',
        b'{"canary_percentages": {"kill.tts": 5}}', b'{"canary_percentages": {}}', b'{"canary_percentages": []}', b"{}",
        b'{"canary_percentages": {"rollout.tts": 5}, "rollout.tts": 5}',
    ],
)  # fmt: skip
async def test_what_is_no_percentage_of_a_known_canary_is_refused_and_changes_nothing(api: Api, body: bytes) -> None:
    operator = await api.operator()
    before = (await operator.get(PATH)).json()["data"]
    answer = await operator.patch(PATH, content=body, headers={"Content-Type": "application/json"})
    assert error_of(answer) == ("VALIDATION_ERROR", 422)
    assert (await operator.get(PATH)).json()["data"] == before


async def test_what_is_stored_is_shown_and_stands_above_the_settings(api: Api) -> None:
    operator = await api.operator()
    try:
        for given_, shown in ((5, 5), (12.5, 12.5), (0, 0), (100.0, 100)):
            answer = await operator.patch(PATH, json={"canary_percentages": {"rollout.external_retrieval": given_}})
            assert answer.status_code == 200
            data = (await operator.get(PATH)).json()["data"]
            assert data == answer.json()["data"]
            assert data["canary_percentages"] == {"rollout.tts": 100, "rollout.external_retrieval": shown}
            assert (data["sources"], data["included"]) == ({"rollout.tts": "default", "rollout.external_retrieval": "stored"}, None)
            asked = (await operator.get(PATH, params={"tenant_id": operator.tenant})).json()["data"]["included"]
            assert asked["rollout.tts"] is True
            assert asked["rollout.external_retrieval"] is at(given_, Rollout.EXTERNAL_RETRIEVAL).includes(
                Rollout.EXTERNAL_RETRIEVAL, operator.tenant
            )
    finally:
        await operator.patch(PATH, json={"canary_percentages": {"rollout.external_retrieval": 100}})
