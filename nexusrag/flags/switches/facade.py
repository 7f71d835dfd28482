"""What other domains may ask of switches."""

from collections.abc import Awaitable, Callable
from typing import Any

from nexusrag.flags.switches import repository
from nexusrag.flags.switches.held import EVERYONE, Held
from nexusrag.flags.switches.stage import disabled
from nexusrag.flags.switches.switches import ALL, FLAGS, Switches
from nexusrag.infra.jobs import SwitchedOff
from nexusrag.infra.resources import Resources
from nexusrag.kernel.switches import Switch

__all__ = [
    "ALL", "EVERYONE", "FLAGS", "Held", "Switches", "current", "demand", "demand_other_providers", "demand_work", "force", "forced", "lift",
    "unless_frozen",
]  # fmt: skip

force, lift = repository.force, repository.lift


async def current(resources: Resources) -> Held:
    """What holds now, in this process, within a second of a change anywhere."""
    return await resources.get(Switches).current()


async def forced(resources: Resources, key: str, tenant_id: str | None) -> Any | None:
    """The value that an operator forced for the tenant or for everyone; None where there is none, or it has ended."""
    found = (await current(resources)).forced_for(key, tenant_id)
    return None if found is None else found.value


async def demand_other_providers(resources: Resources, tenant_id: str) -> None:
    """Raises FEATURE_TEMPORARILY_DISABLED unless providers other than our own index are asked for the tenant."""
    held = await current(resources)
    if not held.asks_others(tenant_id):
        raise disabled(held, Switch.EXTERNAL_RETRIEVAL, tenant_id)


def unless_frozen(step: Callable[[Resources], Awaitable[None]]) -> Callable[[Resources], Awaitable[None]]:
    """`step`, left out while nothing is written."""

    async def guarded(resources: Resources) -> None:
        if not (await current(resources)).frozen:
            await step(resources)

    return guarded


async def demand(resources: Resources, switch: Switch, tenant_id: str) -> None:
    """Raises FEATURE_TEMPORARILY_DISABLED while the switch is on for the tenant."""
    held = await current(resources)
    if held.is_on(switch, tenant_id):
        raise disabled(held, switch, tenant_id)


async def demand_work(resources: Resources, switch: Switch) -> None:
    """Raises SwitchedOff, which puts a job back in the queue, while the switch is on or nothing is written."""
    held = await current(resources)
    if held.frozen or held.is_on(switch):
        raise SwitchedOff
