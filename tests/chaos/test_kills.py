"""A process of the product dies at any point of a write, and the client repeats it with the same key: one effect, one event, one charge."""

import pytest

from tests.chaos.harness import harness
from tests.support.installation import Servers

KILLS = 100


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_hundred_kills_lose_and_double_nothing(servers: Servers) -> None:
    async with harness(servers) as held:
        report = await held.kill_many(KILLS, seed=1)
    print("\n" + "\n".join(report.lines()))
    assert report.faults == []
    assert report.kills >= KILLS
    # The request that died was counted, and so is the one that repeats it: Redis cannot know that it did nothing.
    assert set(report.extra_units) <= {0, 1}
