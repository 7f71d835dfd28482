"""Whole worlds, judged twice: by the product and by the reference. Every answer that differs is a fault of one of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fastapi import FastAPI

from nexusrag.access.policies.cache import CHANGED, PLATFORM
from nexusrag.infra.changes import Changes
from nexusrag.infra.resources import Resources
from tests.proof import reference
from tests.proof.plant import Plant, administrator
from tests.proof.product import GATES, Asking, Product, with_model
from tests.proof.worlds import Tenant, alter, request_of, world
from tests.support.installation import Servers

MODEL, DIMENSIONS = "proof/4", 4
BATCH = 20  # worlds written at once


@dataclass
class Tally:
    """What was compared, and where the two did not agree. A world counts again once it was altered."""

    worlds: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.decisions.values())

    def compare(self, channel: str, what: str, ours: Any, due: Any, count: int = 1) -> None:
        self.decisions[channel] += count
        if ours != due:
            self.differences.append(f"{channel}, {what}: the product says {ours!r}, the reference {due!r}")

    def __str__(self) -> str:
        by_channel = ", ".join(f"{channel} {count:,}" for channel, count in sorted(self.decisions.items()))
        return f"{self.total:,} decisions in {self.worlds:,} worlds: {by_channel}"


@dataclass(frozen=True)
class Proof:
    """A product with an embedding space of its own."""

    product: Product
    plant: Plant

    async def run(self, seeds: Sequence[int], tally: Tally) -> None:
        """Each world as it is made, and once more after it was altered."""
        for start in range(0, len(seeds), BATCH):
            worlds = [(Random(-seed - 1), tenant) for seed in seeds[start : start + BATCH] for tenant in world(seed)]
            tenants = [tenant for _, tenant in worlds]
            await self.plant.put(tenants)
            await self._judge(worlds, tally)
            for random, tenant in worlds:
                alter(random, tenant)
            await self.plant.put_again(tenants)
            await self._judge(worlds, tally)
            tally.worlds += 2 * len(seeds[start : start + BATCH])

    async def _judge(self, worlds: Sequence[tuple[Random, Tenant]], tally: Tally) -> None:
        # As whoever writes a policy does, in this process.
        for key in (PLATFORM, *(tenant["id"] for _, tenant in worlds)):
            self.product.resources.get(Changes).tell(CHANGED, key)
        for random, tenant in worlds:
            async with self.product.of(tenant) as asking:
                await judge(asking, random, tally)


async def judge(asking: Asking, random: Random, tally: Tally) -> None:
    """Everybody of a tenant, about every document of it."""
    tenant, request = asking.tenant, request_of(random)
    callers = [*(("user", name) for name in tenant["users"]), *(("api_key", name) for name in tenant["keys"])]
    for caller in callers:
        principal = await asking.principal(caller)
        due = {
            (verb, one): reference.decide(tenant, caller, verb, one, request) for verb in reference.ACTION for one in tenant["documents"]
        }
        tally.reasons.update(decided.partition(" ")[0] for decided in due.values())
        tally.compare("caller", f"{caller} of {tenant['id']}", principal is not None, "person" not in due.values())
        if principal is None:
            continue
        calling = await asking.caller(principal, request)
        for verb in ("read", random.choice(("write", "delete", "reindex"))):
            told = await asking.checks(calling, verb)
            for one, code in told.items():
                mine = reference.told(tenant, caller, verb, one, request)
                tally.compare("check", f"{caller} {verb} {one} of {tenant['id']} with {request}", code, mine)
            wanted = {(tenant["id"], one) for one in tenant["documents"] if due[verb, one] in reference.GIVING}
            listed = await asking.lists(calling, verb)
            tally.compare("list", f"{caller} {verb} in {tenant['id']} with {request}", listed, wanted, len(tenant["documents"]))
        states = Counter(one["status"] for name, one in tenant["documents"].items() if due["read", name] in reference.GIVING)
        tally.compare("count", f"{caller} in {tenant['id']}", await asking.counts(calling), dict(states), len(states))
        corpus = random.choice(list(tenant["corpora"]))
        within = {name for name, one in tenant["documents"].items() if one["corpus_id"] == corpus and name in tenant["indexed"]}
        found = await asking.searches(calling, corpus, exact=random.random() < 0.75)
        wanted = {one for one in within if due["search", one] in reference.GIVING}
        tally.compare("search", f"{caller} in {corpus} of {tenant['id']} with {request}", found, wanted, len(within))
    for _ in range(2):
        caller, verb, one = random.choice(callers), random.choice(list(GATES)), random.choice(list(tenant["documents"]))
        told = await asking.explains(caller, verb, one, request)
        mine = reference.decide(tenant, caller, verb, one, request)
        gone = tenant["corpora"][tenant["documents"][one]["corpus_id"]]["deleted"]
        tally.compare("explain", f"{caller} {verb} {one} of {tenant['id']}", told, "NOT_FOUND" if gone else mine)


@asynccontextmanager
async def proving(servers: Servers, app: FastAPI, resources: Resources) -> AsyncIterator[Proof]:
    """A proof of what `resources` make of documents in a space that the proof alone uses."""
    own = with_model(resources, MODEL, DIMENSIONS)
    admin = await administrator(await servers.admin())
    space = await admin.fetchval("select space_ensure($1, $2)", MODEL, DIMENSIONS)
    plant = Plant(admin, servers.settings.auth.auth_key_pepper.get_secret_value(), space, DIMENSIONS)
    try:
        async with asyncio.timeout(10):
            while not resources.get(Changes).live:
                await asyncio.sleep(0.01)
        yield Proof(Product(app, own), plant)
    finally:
        await plant.clear()
        await admin.close()
