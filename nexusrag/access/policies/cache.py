"""The policies that bind each tenant, kept while changes are being heard."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from nexusrag.access.policies import repository
from nexusrag.access.policies.caller import NO_POLICIES
from nexusrag.access.policies.decide import PolicySet, read_policy
from nexusrag.access.policies.language import Limits
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database
from nexusrag.infra.kept import Kept
from nexusrag.kernel.errors import ApiError
from nexusrag.settings import Settings

# A change is announced for one tenant, or with `*` for the platform's policies.
CHANGED, PLATFORM = "policies", "*"
_MAX_TENANTS = 2_000
# Above so many, reading them would keep other requests waiting.
_MANY = 100


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read last, and of which versions: read again unchanged, it need not be made again."""

    policies: PolicySet
    versions: frozenset[tuple[str, int]]


class Policies:
    """Caches only while changes are being heard, and never longer than a credential."""

    def __init__(self, changes: Changes, database: Database, settings: Settings) -> None:
        self._database = database
        self._auth = settings.auth
        self._limits = limits(settings)
        self._held: Kept[str, PolicySet] = Kept(changes, ttl_s=settings.auth.auth_cache_ttl_s, most=_MAX_TENANTS)
        self._last_known: OrderedDict[str, _Known] = OrderedDict()
        changes.on(CHANGED, self._drop, dropped=self._held.clear)

    async def of(self, tenant_id: str) -> PolicySet:
        """The enabled policies of the tenant and the platform. Raises SERVICE_UNAVAILABLE when they cannot be read."""
        if not self._auth.authz_abac_enabled:
            return NO_POLICIES
        held = self._held.get(tenant_id)
        if held is not None:
            return held
        generation = self._held.generation
        async with self._database.work(tenant_id) as work:
            rows = await repository.binding(work)
        before = self._last_known.get(tenant_id)
        versions = frozenset((row["id"], row["version"]) for row in rows)
        if before is not None and before.versions == versions:
            made = before
        elif len(rows) > _MANY:
            made = await asyncio.to_thread(self._made, rows, versions, before)
        else:
            made = self._made(rows, versions, before)
        self._keep(tenant_id, made, generation)
        return made.policies

    async def or_last_known(self, tenant_id: str) -> PolicySet:
        """The same, or what was last read: for what must answer while there is no database to ask."""
        try:
            return await self.of(tenant_id)
        except ApiError:
            known = self._last_known.get(tenant_id)
            return known.policies if known is not None else NO_POLICIES

    def _made(self, rows: list[Any], versions: frozenset[tuple[str, int]], before: "_Known | None") -> "_Known":
        made = PolicySet(
            read_policy(row["id"], row["effect"], row["resource_type"], row["action"], row["priority"], row["condition"], self._limits)
            for row in rows
        )
        if before is not None:
            made.prepare(before.policies)
        return _Known(made, versions)

    def _keep(self, tenant_id: str, made: "_Known", generation: int) -> None:
        self._last_known[tenant_id] = made
        if len(self._last_known) > _MAX_TENANTS:
            self._last_known.popitem(last=False)
        self._held.put(tenant_id, made.policies, generation)

    def _drop(self, tenant_id: str) -> None:
        if tenant_id == PLATFORM:
            self._held.clear()
        else:
            self._held.drop(tenant_id)


def limits(settings: Settings) -> Limits:
    """Of one condition."""
    return Limits(bytes=settings.auth.authz_max_policy_bytes, depth=settings.auth.authz_max_policy_depth)
