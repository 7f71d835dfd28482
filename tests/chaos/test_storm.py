"""Everything dies and comes back while clients are at work: what was acknowledged stands once, and the ledger is the provider's invoice."""

import pytest

from tests.chaos.storm import storm
from tests.support.installation import Servers

FAULTS = 9  # each kind once, but for the worst, after which everything has to be started again
SEED = 1


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_storm_loses_and_doubles_nothing_and_the_bill_is_right(servers: Servers) -> None:
    async with storm(servers, SEED) as held:
        report = await held.rage(FAULTS)
    print("\n" + "\n".join(report.lines()))
    assert report.faults == []
    assert min(report.refused) > 0, "neither cap nor budget was ever in the way"
