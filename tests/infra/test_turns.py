"""Who is ahead of its rate lets others go first: in order, one at a time, for a while, and only where there are others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexusrag.infra import turns as module
from nexusrag.infra.turns import Turn, Turns

LONG_S = 3600.0
WHAT = ["begin", "ahead", "pause", "leave", "cancel"]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", LONG_S)
    monkeypatch.setattr(module, "_LATE_PATIENCE_S", LONG_S)
    monkeypatch.setattr(module, "_ASKS_S", LONG_S)


@pytest.fixture
def turns() -> Turns:
    return Turns(lambda: False)


async def steps() -> None:
    """Everything that can go on goes on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def orderly(turns: Turns, tenant: str) -> Turn:
    turn = Turn()
    await turns.begin(turn, tenant, 0)
    return turn


@asynccontextmanager
async def beginning(
    turns: Turns, *tenants: str, ahead: tuple[int, ...] = (500, 500, 500)
) -> AsyncIterator[list[tuple[Turn, "asyncio.Task[None]"]]]:
    """Requests that are ahead of their rate, in this order."""
    made = []
    for tenant, far in zip(tenants, ahead, strict=False):
        turn = Turn()
        made.append((turn, asyncio.create_task(turns.begin(turn, tenant, far))))
        await steps()
    yield made
    for _, task in made:
        task.cancel()
    await asyncio.gather(*(task for _, task in made), return_exceptions=True)


def begun(made: list[tuple[Turn, "asyncio.Task[None]"]]) -> list[bool]:
    return [task.done() and turn.is_under_way for turn, task in made]


async def test_who_asks_alone_waits_for_nothing(turns: Turns, patient: None) -> None:
    await orderly(turns, "a")
    async with beginning(turns, "a", "a", "a") as made:
        assert begun(made) == [True, True, True]
        await turns.pause(made[0][0])


async def test_who_is_ahead_waits_until_nothing_of_another_tenant_is_under_way(turns: Turns, patient: None) -> None:
    await orderly(turns, "a")
    first, second = await orderly(turns, "b"), await orderly(turns, "b")
    async with beginning(turns, "a") as made:
        for one in (first, second):
            assert begun(made) == [False]
            turns.leave(one)
            await steps()
        assert begun(made) == [True]


async def test_who_waits_begins_in_the_order_of_coming_one_after_the_other(turns: Turns, patient: None) -> None:
    other = await orderly(turns, "b")
    async with beginning(turns, "a", "c", "a") as made:
        turns.leave(other)
        for number in range(3):
            await steps()
            assert begun(made) == [place <= number for place in range(3)]
            turns.leave(made[number][0])
            made[number][0].is_under_way = True  # for `begun`


async def test_who_is_least_ahead_begins_first(turns: Turns, patient: None) -> None:
    other = await orderly(turns, "b")
    async with beginning(turns, "flood", "flood", "c", ahead=(900, 901, 300)) as made:
        turns.leave(other)
        await steps()
        assert begun(made) == [False, False, True]


async def test_a_burst_that_began_while_nobody_else_asked_lets_others_go_first_when_they_come(turns: Turns, patient: None) -> None:
    async with beginning(turns, "a", "a") as made:
        assert begun(made) == [True, True]
        other = await orderly(turns, "b")
        paused = asyncio.create_task(turns.pause(made[0][0]))
        await steps()
        assert not paused.done()
        async with beginning(turns, "a") as later:
            assert begun(later) == [False]
        turns.leave(other)
        await asyncio.wait_for(paused, 20)


async def test_nobody_who_keeps_to_its_rate_waits_for_who_does_not(turns: Turns, patient: None) -> None:
    await orderly(turns, "b")
    async with beginning(turns, "a"):
        async with asyncio.timeout(1):
            await orderly(turns, "b")
            await orderly(turns, "c")


async def test_in_the_middle_it_lets_others_go_first_again(turns: Turns, patient: None) -> None:
    turns.leave(await orderly(turns, "b"))
    async with beginning(turns, "a") as made:
        assert begun(made) == [True]
        turn = made[0][0]
        await turns.pause(turn)  # nobody is there
        other = await orderly(turns, "b")
        paused = asyncio.create_task(turns.pause(turn))
        await steps()
        assert not paused.done()
        turns.leave(other)
        await steps()
        assert paused.done()


@pytest.mark.parametrize("is_late", [False, True])
async def test_patience_has_an_end_which_is_later_while_the_process_is_late(monkeypatch: pytest.MonkeyPatch, is_late: bool) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.01)
    monkeypatch.setattr(module, "_LATE_PATIENCE_S", LONG_S)
    turns = Turns(lambda: is_late)
    await orderly(turns, "b")
    async with beginning(turns, "a") as made:
        turn, task = made[0]
        await asyncio.wait((task,), timeout=0.2 if is_late else 20)
        assert begun(made) == [not is_late]
        if not is_late:  # nor does it wait again
            async with asyncio.timeout(20):
                await turns.pause(turn)


async def test_who_asked_long_ago_asks_no_more(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    await orderly(turns, "b")
    now += 1.5
    async with beginning(turns, "a") as made:
        assert begun(made) == [True], "though b's request is under way"


async def test_who_never_had_a_turn_leaves_nothing(turns: Turns, patient: None) -> None:
    turns.leave(Turn())
    other = await orderly(turns, "b")
    async with beginning(turns, "a") as made:
        made[0][1].cancel()
        await steps()
        turns.leave(made[0][0])
    turns.leave(other)
    assert not turns._orderly and not turns._beginning and turns._ahead == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(WHAT), st.sampled_from("abc"), st.integers(0, 30)), max_size=60))
def test_whatever_happens_nobody_is_forgotten_and_nobody_is_in_the_way(does: list[tuple[str, str, int]]) -> None:
    async def run() -> None:
        turns = Turns(lambda: False)
        held: list[tuple[Turn, asyncio.Task[None]]] = []

        def idle(which: int, of: Callable[[Turn, "asyncio.Task[None]"], bool]) -> tuple[Turn, "asyncio.Task[None]"] | None:
            found = [(turn, task) for turn, task in held if of(turn, task)]
            return found[which % len(found)] if found else None

        for what, tenant, which in does:
            if what in ("begin", "ahead"):
                turn = Turn()
                held.append((turn, asyncio.create_task(turns.begin(turn, tenant, 500 if what == "ahead" else 0))))
            elif what == "pause" and (one := idle(which, lambda turn, task: task.done() and turn.is_under_way)):
                held.remove(one)
                held.append((one[0], asyncio.create_task(turns.pause(one[0]))))
            elif what == "leave" and (one := idle(which, lambda turn, task: task.done() and turn.is_under_way)):
                held.remove(one)
                turns.leave(one[0])
            elif what == "cancel" and (one := idle(which, lambda turn, task: not task.done())):
                held.remove(one)
                one[1].cancel()
                await asyncio.gather(one[1], return_exceptions=True)
                turns.leave(one[0])
            await steps()
            working = [one for one, _ in held if one.is_under_way]
            for turn, task in held:
                # Only somebody who is ahead waits, for another tenant's request; and before it begins, for one that is ahead as well.
                orderly_ones = any(not one.ahead and one.tenant_id != turn.tenant_id for one in working)
                ahead_ones = not turn.is_under_way and any(one.ahead for one in working)
                assert task.done() or (turn.ahead and (orderly_ones or ahead_ones))
        for _ in range(len(held)):
            await steps()
            for one in [one for one in held if one[1].done()]:
                held.remove(one)
                turns.leave(one[0])
        assert not held and not turns._orderly and not turns._beginning and not turns._paused and turns._ahead == 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PATIENCE_S", LONG_S)
        patch.setattr(module, "_LATE_PATIENCE_S", LONG_S)
        asyncio.run(run())
