"""What processes keep about each tenant: its prices and its budget while changes are heard, and what it has spent, seconds old at most."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from time import monotonic

import asyncpg
import structlog

from nexusrag.billing.costs import repository
from nexusrag.billing.costs.budgets import Agreed, Budget, month_of
from nexusrag.billing.costs.prices import BUILT_IN, Price, Prices, book
from nexusrag.billing.costs.repository import Mark, Spent
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database, Work
from nexusrag.infra.kept import Kept
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError
from nexusrag.settings import Settings

log = structlog.get_logger(__name__)
# What is announced, for one tenant, when its prices or its budget change.
PRICES, BUDGET = "prices", "budget"
_MAX_TENANTS = 10_000
_REFRESH_S = 2.0
# Older figures are asked for again by the request that needs them.
_STALE_S = 6.0
# How long a tenant's are refreshed after its last request: as long as its callers are remembered, so that the next one asks nothing.
_LATELY_S = 16.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed with one tenant, and what it pays."""

    agreed: Agreed
    prices: Prices
    warn_ratio: Decimal
    settings: Settings

    def budget(self, at: datetime) -> Budget:
        return self.agreed.in_month(month_of(at), self.warn_ratio, self.settings.costs.cost_default_hard_cap_mode)


class TermsCache:
    """Caches only while changes are being heard, and never longer than a credential."""

    def __init__(self, changes: Changes, settings: Settings) -> None:
        self._settings = settings
        costs = settings.costs
        self._platform = book((*BUILT_IN, *platform_prices(settings)))
        ratio = Decimal(str(costs.cost_estimator_token_chars_ratio))
        self._estimated_token = Decimal(4) / ratio if costs.cost_estimator_enabled else Decimal(0)
        self._warn_ratio = Decimal(str(costs.cost_default_warn_ratio))
        self._held: Kept[str, Terms] = Kept(changes, ttl_s=settings.auth.auth_cache_ttl_s, most=_MAX_TENANTS)
        # What this process knows to be on record: tenant, mark and month.
        self.marked: set[tuple[str, Mark, date]] = set()
        for kind in (PRICES, BUDGET):
            changes.on(kind, self._drop, dropped=self.clear)

    async def of(self, work: Work) -> Terms:
        """Of the tenant of `work`, in which they are read unless they are known."""
        tenant_id = work.tenant_id or ""
        held = self.known(tenant_id)
        if held is not None:
            return held
        generation = self._held.generation
        made = self.made(*await repository.terms(work))
        self._held.put(tenant_id, made, generation)
        return made

    def known(self, tenant_id: str) -> Terms | None:
        """The same without asking, if they have been read before."""
        return self._held.get(tenant_id)

    def made(self, agreed: Agreed, prices: list[Price]) -> Terms:
        return Terms(agreed, Prices(book(prices), self._platform, self._estimated_token), self._warn_ratio, self._settings)

    def _drop(self, tenant_id: str) -> None:
        self._held.drop(tenant_id)
        self.marked = {mark for mark in self.marked if mark[0] != tenant_id}

    def clear(self) -> None:
        self._held.clear()
        self.marked.clear()


@dataclass(slots=True)
class _Figure:
    spent: Spent
    month: date
    at: float
    asked: float


class SpendFigures:
    """What tenants have spent in the current month: refreshed behind the back of requests while somebody asks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: OrderedDict[str, _Figure] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    async def of(self, work: Work, *, anew: bool = False) -> Spent:
        """Of the tenant of `work`, seconds old at most; `anew`: as the database has it now."""
        tenant_id, now, month = work.tenant_id or "", monotonic(), month_of(clock.now())
        figure = self._held.get(tenant_id)
        if figure is not None and not anew and figure.month == month and figure.at > now - _STALE_S:
            figure.asked = now
            return figure.spent
        (spent,) = (await repository.spent(work, [tenant_id], month)).values()
        self._put(tenant_id, spent, month, asked=now)
        return spent

    def note(self, tenant_id: str, usd: Decimal, month: date, *, guessed: bool) -> Spent:
        """What a reservation of this process has just seen; `guessed`: there is something in it that is not known exactly."""
        figure = self._held.get(tenant_id)
        if figure is None or figure.month != month:
            return Spent(usd, Decimal(0), guessed)
        figure.spent = Spent(usd, figure.spent.held, figure.spent.estimated or guessed)
        return figure.spent

    async def refresh(self) -> None:
        """Ask for the figures of all tenants that somebody asked for lately, in one statement."""
        lately = monotonic() - _LATELY_S
        for tenant_id in [key for key, figure in self._held.items() if figure.asked < lately]:
            del self._held[tenant_id]
        if not self._held:
            return
        month = month_of(clock.now())
        async with self._database.work(None) as work:
            found = await repository.spent(work, list(self._held), month)
        for tenant_id, spent in found.items():
            self._put(tenant_id, spent, month)

    def start(self) -> None:
        self._task = asyncio.create_task(self._refresh(), name="spend figures")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _put(self, tenant_id: str, spent: Spent, month: date, asked: float | None = None) -> None:
        former = self._held.get(tenant_id)
        self._held[tenant_id] = _Figure(spent, month, monotonic(), asked or (former.asked if former else 0.0))
        if len(self._held) > _MAX_TENANTS:
            self._held.popitem(last=False)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            try:
                await self.refresh()
            except (ApiError, asyncpg.PostgresError) as error:  # requests ask for themselves meanwhile
                log.warning("costs.figures_old", error=type(error).__name__)


def platform_prices(settings: Settings) -> list[Price]:
    """Those of COST_PLATFORM_PRICES, in force at all times."""
    always = datetime(2000, 1, 1, tzinfo=UTC)
    return [
        Price(
            f"platform:{entry['provider']}:{entry['component']}:{entry['rate_type']}",
            "platform", entry["provider"], entry["component"], entry["rate_type"], entry["rate_value_usd"], always,
        )
        for entry in settings.costs.platform_prices
    ]  # fmt: skip
