"""A reader that stops reading takes no run's place for longer than the grace."""

import asyncio
from time import monotonic

import pytest

from nexusrag.agents.runs.registry import RunRegistry
from nexusrag.infra.bulkheads import Bulkheads
from tests.agents.runs.test_disconnect import send
from tests.agents.scripted import installation
from tests.support.installation import Servers
from tests.support.processes import until

GRACE_S = 1


@pytest.mark.slow
async def test_a_stalled_reader_is_hung_up_on_and_its_run_gives_its_place_back_after_the_grace(servers: Servers) -> None:
    async with installation(servers, RUN_MAX_CONCURRENCY="1", RUN_STALL_TIMEOUT_S="1", RUN_DISCONNECT_GRACE_S=str(GRACE_S)) as held:
        person, corpus = await held.asker()
        registry, places = held.api.resources.get(RunRegistry), held.api.resources.get(Bulkheads)["run"]
        # More than all buffers between us hold, from a model that then never comes to an end.
        question = held.model.play(*["x" * 50_000] * 120, asyncio.Event())
        connection = await send(held.api.base_url, person, corpus, question)
        try:

            async def cut() -> bool:
                return any(live.abandoned_at is not None for live in registry._live.values())

            await until(cut, 30)
            (run,) = registry._live
            since = monotonic()
            assert places.taken == 1

            async def free() -> bool:
                return places.taken == 0

            await until(free, GRACE_S + 1)
            print(f"\nthe place was free {monotonic() - since:.1f} s after the reader was cut off (grace {GRACE_S} s)")

            async def hung_up() -> bool:
                """What was on its way can still be read; then comes the end, and not silence."""
                try:
                    return connection.recv(1 << 20) == b""
                except ConnectionError:
                    return True
                except BlockingIOError:
                    return False

            await until(hung_up, 10, 0)
        finally:
            connection.close()
        receipt = await held.ended(person, run)
        assert held.model.open == 0
        assert (receipt["state"], receipt["error_code"]) == ("cancelled", "RUN_CANCELLED")
        assert (await person.run(corpus, "Who is the lighthouse keeper?"))[-2].type == "message.final"
