"""`python -m tests.chaos [KILLS] [SEED]`: a long series of kills; `python -m tests.chaos storm [FAULTS] [SEED]`: a long storm.

Both say what came of it. Exit code 1 when anything was lost, doubled or wrong.
"""

import asyncio
import sys

from nexusrag.infra import logs
from tests.chaos.harness import harness
from tests.chaos.storm import storm
from tests.support.installation import Servers


async def kills(servers: Servers, number: int = 1000, seed: int = 1) -> int:
    async with harness(servers) as held:
        report = await held.kill_many(number, seed=seed, disturbed=True)
    print("\n".join(report.lines()))
    return 1 if report.faults else 0


async def faults(servers: Servers, number: int = 100, seed: int = 1) -> int:
    async with storm(servers, seed) as held:
        report = await held.rage(number)
    print("\n".join(report.lines()))
    return 1 if report.faults else 0


if __name__ == "__main__":
    logs.configure("ERROR")
    arguments = sys.argv[1:]
    run = faults if arguments[:1] == ["storm"] else kills
    held = Servers()
    try:
        code = asyncio.run(run(held, *map(int, arguments[run is faults :])))
    finally:
        held.close()
    sys.exit(code)
