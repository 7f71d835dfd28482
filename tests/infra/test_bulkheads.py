"""A bulkhead gives so many places and no more, and at saturation to each tenant its share."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusrag.infra import bulkheads
from nexusrag.infra.bulkheads import Bulkhead, Slot
from nexusrag.kernel.errors import ApiError, ErrorCode


def refused(bulkhead: Bulkhead, tenant: str) -> bool:
    try:
        bulkhead.acquire(tenant)
    except ApiError as error:
        assert (error.code, error.headers) == (ErrorCode.SERVICE_BUSY, {"Retry-After": "1"})
        return True
    return False


def test_one_tenant_alone_may_have_all_places() -> None:
    bulkhead = Bulkhead("run", 4)
    slots = [bulkhead.acquire("a") for _ in range(4)]
    assert refused(bulkhead, "a") and bulkhead.taken == 4
    for slot in slots:
        slot.release()
        slot.release()
    assert bulkhead.taken == 0 and not refused(bulkhead, "a")


def test_a_place_that_is_given_back_goes_to_whoever_waits_with_less_than_their_share() -> None:
    bulkhead = Bulkhead("run", 4)
    slots = [bulkhead.acquire("greedy") for _ in range(4)]
    assert refused(bulkhead, "modest")
    slots.pop().release()
    assert refused(bulkhead, "greedy")  # it holds three of four, and somebody waits
    assert not refused(bulkhead, "modest")
    slots.pop().release()
    assert not refused(bulkhead, "greedy")  # nobody waits any more


def test_places_are_kept_for_as_many_as_wait_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(bulkheads, "monotonic", lambda: now[0])
    bulkhead = Bulkhead("run", 4)
    slots = [bulkhead.acquire("greedy") for _ in range(4)]
    assert refused(bulkhead, "modest")
    slots.pop().release()
    slots.pop().release()
    assert not refused(bulkhead, "greedy")  # two are left, one waits
    assert refused(bulkhead, "greedy")
    now[0] += 3
    assert not refused(bulkhead, "greedy")  # whoever waited has not come back


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_however_often_others_ask_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    now = [100.0]
    monkeypatch.setattr(bulkheads, "monotonic", lambda: now[0])
    bulkhead, impatient = Bulkhead("run", limit), [f"t{number}" for number in range(limit)]
    held = {tenant: bulkhead.acquire(tenant) for tenant in impatient}
    waited, places = 0, 0
    while refused(bulkhead, "patient"):  # which comes back after a second, as it was told
        waited += 1
        assert waited <= 4
        for step in range(100):  # while each of the others asks again as soon as it was answered
            now[0] += 0.01
            tenant = impatient[step % limit]
            if tenant in held:
                held.pop(tenant).release()
            if not refused(bulkhead, tenant):
                held[tenant] = Slot(bulkhead, tenant)
            places += bulkhead.taken
    assert places >= waited * 100 * (limit - 1)  # at most one place stood empty


def test_a_place_that_can_be_freed_is_given() -> None:
    bulkhead = Bulkhead("run", 1)
    (slot,) = [bulkhead.acquire("a")]

    def free() -> bool:
        slot.release()
        return True

    bulkhead.make_room = free
    assert not refused(bulkhead, "b")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60), st.integers(1, 6))
def test_never_more_than_the_limit_and_each_gets_its_share_if_it_keeps_asking(steps: list[tuple[str, bool]], limit: int) -> None:
    bulkhead, held = Bulkhead("run", limit), list[tuple[str, Slot]]()
    for tenant, leave in steps:
        mine = next((entry for entry in held if entry[0] == tenant), None)
        if leave and mine is not None:
            held.remove(mine)
            mine[1].release()
        else:
            try:
                held.append((tenant, bulkhead.acquire(tenant)))
            except ApiError:
                pass
        assert bulkhead.taken == len(held) <= limit
    # Everybody asks for more over and over, while one place after the other comes back.
    for _ in range(20 * limit):
        for tenant in "abc":
            refused(bulkhead, tenant) or held.append((tenant, Slot(bulkhead, tenant)))
        counts = Counter(tenant for tenant, _ in held)
        most = max(counts, key=lambda tenant: counts[tenant])
        entry = next(entry for entry in held if entry[0] == most)
        held.remove(entry)
        entry[1].release()
    counts = Counter(tenant for tenant, _ in held)
    assert all(counts[tenant] >= limit // 3 - 1 for tenant in "abc"), counts
