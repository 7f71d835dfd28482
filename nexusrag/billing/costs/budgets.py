"""What a tenant may spend in a month, and what follows from what it has spent."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

HardCapMode = Literal["block", "degrade"]
Status = Literal["ok", "warn", "capped", "degraded"]


def month_of(moment: datetime) -> date:
    """The UTC month that budgets count by."""
    return moment.date().replace(day=1)


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget in force in one month. `limit` is None where there is none; `enforced`: its end is more than a warning."""

    limit: Decimal | None
    warn_ratio: Decimal
    enforced: bool
    mode: HardCapMode

    @property
    def cap(self) -> Decimal | None:
        """What reservations are held against (`Caps.month_usd`): only a budget that blocks refuses."""
        return self.limit if self.enforced and self.mode == "block" else None

    def status(self, spent: Decimal) -> Status:
        """Where spending `spent` leaves the tenant. `spent` counts what is held by work under way."""
        if self.limit is None:
            return "ok"
        if self.enforced and spent >= self.limit:
            return "capped" if self.mode == "block" else "degraded"
        return "warn" if spent >= self.limit * self.warn_ratio else "ok"

    def remaining(self, spent: Decimal) -> Decimal | None:
        """Never less than nothing."""
        return None if self.limit is None else max(self.limit - spent, Decimal(0))


@dataclass(frozen=True, slots=True)
class Agreed:
    """What an admin set; None is the installation's default. An override counts in its month alone."""

    monthly_usd: Decimal | None = None
    warn_ratio: Decimal | None = None
    enforce: bool | None = None
    mode: HardCapMode | None = None
    override_usd: Decimal | None = None
    override_month: date | None = None

    def in_month(self, month: date, warn_ratio: Decimal, mode: HardCapMode) -> Budget:
        """The budget in force, given the installation's defaults."""
        overridden = self.override_usd is not None and self.override_month == month
        return Budget(
            limit=self.override_usd if overridden else self.monthly_usd,
            warn_ratio=self.warn_ratio if self.warn_ratio is not None else warn_ratio,
            enforced=bool(self.enforce),
            mode=self.mode or mode,
        )
