"""`python -m tests.chaos [KILLS] [SEED]`: a long series of kills, and what came of it. Exit code 1 when an effect was lost or doubled."""

import asyncio
import sys

from nexusrag.infra import logs
from tests.chaos.harness import harness
from tests.support.installation import Servers


async def main(servers: Servers, kills: int = 1000, seed: int = 1) -> int:
    async with harness(servers) as held:
        report = await held.kill_many(kills, seed=seed, disturbed=True)
    print("\n".join(report.lines()))
    return 1 if report.faults else 0


if __name__ == "__main__":
    logs.configure("ERROR")
    held = Servers()
    try:
        code = asyncio.run(main(held, *map(int, sys.argv[1:])))
    finally:
        held.close()
    sys.exit(code)
