"""`make proof ARGS=600`: new worlds for so many seconds, and how many million decisions were compared. Exits with 1 if any differs.

A second argument is the number of the first world: `make proof ARGS='60 123456'` looks at the worlds of an earlier run again.
"""

import asyncio
import secrets
import sys
from time import monotonic

from nexusrag.infra import logs
from tests.proof.compare import BATCH, Tally, proving
from tests.support.installation import Servers, serving


async def run(servers: Servers, seconds: float, first: int) -> Tally:
    tally, end = Tally(), monotonic() + seconds
    async with serving(servers.with_env()) as (app, _), proving(servers, app, app.state.resources) as proof:
        while monotonic() < end and not tally.differences:
            await proof.run(range(first, first + BATCH), tally)
            first += BATCH
    return tally


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    first = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbelow(10**9)
    logs.configure("ERROR")
    servers = Servers()
    try:
        tally = asyncio.run(run(servers, seconds, first))
    finally:
        servers.close()
    print(f"Worlds from {first} on: {tally}")
    print(f"{tally.total / 1e6:.3f} million decisions, {len(tally.differences)} of them differ.")
    for difference in tally.differences[:10]:
        print(difference)
    return 1 if tally.differences else 0


if __name__ == "__main__":
    sys.exit(main())
