"""Builds a worker from the domains: jobs and crons, woken through ARQ."""

import asyncio
import signal
from collections.abc import Sequence

import structlog

from nexusrag.domains import DOMAINS
from nexusrag.flags.switches.facade import Switches, unless_frozen
from nexusrag.infra.jobs import Handlers
from nexusrag.infra.loop import new_loop, settle_memory
from nexusrag.infra.runner import Runner
from nexusrag.process import open_process
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain, Periodic

log = structlog.get_logger(__name__)


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """Run the jobs of the ingest queue until `stop` is set."""
    async with open_process(settings, DOMAINS) as resources:
        ingestion = settings.ingestion
        runner = Runner(
            resources,
            ingestion.ingest_queue_name,
            resources.get(Handlers).all(),
            concurrency=ingestion.ingest_max_concurrency,
            heartbeat_s=ingestion.worker_heartbeat_interval_s,
            crons=crons_of(DOMAINS),
            kinds=resources.get(Switches).kinds,
        )
        settle_memory()
        log.info("worker.started", worker=runner.id)
        await runner.run(stop)
        log.info("worker.stopped", worker=runner.id)


def crons_of(domains: Sequence[Domain]) -> dict[str, tuple[float, Periodic]]:
    """What a worker does every now and then, as its runner takes it."""
    return {
        cron.name: (cron.every_s, unless_frozen(cron.run) if cron.can_wait else cron.run) for domain in domains for cron in domain.crons
    }


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; what is nearly done is finished, the rest handed back."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await work(settings, stop)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
