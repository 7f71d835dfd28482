"""Use cases of switches: look, and change what is stored."""

from collections.abc import Sequence

from nexusrag.flags.switches import repository
from nexusrag.flags.switches.held import EVERYONE, of_settings
from nexusrag.flags.switches.schemas import Canaries, CanariesPatch, ForcedFlag, KillSwitches, KillSwitchesPatch
from nexusrag.flags.switches.switches import ALL, FLAGS, held_of
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.switches import Rollout, Switch
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


async def kill_switches(call: CallContext, tenant_id: str | None = None) -> KillSwitches:
    """Each switch as it stands for the platform, or for one tenant, and every flag that is forced for anyone."""
    rows = await repository.everything(call.db.raw)
    held = held_of(rows, call.of(Settings).rollouts)
    return KillSwitches(
        kill_switches={switch.value: held.is_on(switch, tenant_id) for switch in Switch},
        sources={switch.value: held.source(switch, tenant_id) for switch in Switch},
        forced=[
            ForcedFlag.model_validate({**row, "tenant_id": None if row["scope"] == EVERYONE else row["scope"]})
            for row in rows
            if row["forced"]
        ],
    )


async def canaries(call: CallContext, tenant_id: str | None = None) -> Canaries:
    """Each canary as it stands for the platform, and whether it has the tenant."""
    settings = call.of(Settings).rollouts
    held = held_of(await repository.everything(call.db.raw), settings)
    return Canaries(
        canary_percentages={rollout.value: _plain(held.percentage(rollout)) for rollout in Rollout},
        sources={rollout.value: held.source(rollout) for rollout in Rollout},
        included=None if tenant_id is None else {rollout.value: held.includes(rollout, tenant_id) for rollout in Rollout},
    )


async def switch(call: CallContext, body: KillSwitchesPatch) -> KillSwitches:
    """Store these; every process acts by them within a second. A forced flag stands above what is stored until it ends."""
    await _store(call, list(body.kill_switches.items()))
    return await kill_switches(call)


async def roll_out(call: CallContext, body: CanariesPatch) -> Canaries:
    """Store these percentages."""
    await _store(call, [(key, _plain(value)) for key, value in body.canary_percentages.items()])
    return await canaries(call)


async def _store(call: CallContext, values: Sequence[tuple[Switch | Rollout, bool | int | float]]) -> None:
    settings = call.of(Settings).rollouts
    before = held_of(await repository.everything(call.db.raw), settings)
    for key, value in sorted(values):  # in one order, so that two who change several do not wait for each other
        await repository.store(call.db, key, value, call.principal.subject_id)
        call.record(**{key.replace(".", "_"): {"from": before.stored.get(key, of_settings(settings, key)), "to": value}})
    call.about(Resource.ROLLOUT, ",".join(sorted(key for key, _ in values)))
    await call.announce(FLAGS, ALL)


def _plain(percentage: float) -> int | float:
    return int(percentage) if percentage == int(percentage) else percentage
