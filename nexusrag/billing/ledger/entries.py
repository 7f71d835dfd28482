"""What the ledger is told and what it answers."""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

PeriodName = Literal["day", "month"]
Noted = Literal["soft_cap", "overage"]
Component = Literal["llm", "embedding", "retrieval", "tts", "storage"]


@dataclass(frozen=True, slots=True)
class Line:
    """One metered quantity and what it costs. `quantity` counts what `rate_type` is per, unscaled: tokens, characters, requests, bytes.

    `usd` is exact to 12 places; without a price it is 0, and `rate_usd` and `price_id` are None. `estimated`: counted by us.
    """

    component: Component
    provider: str
    model: str | None
    rate_type: str
    quantity: Decimal
    rate_usd: Decimal | None
    price_id: str | None
    usd: Decimal
    estimated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What one piece of work may take at most. `subject` is its id, unique in the tenant: of a run, a job, a request.

    It expires after `lasts`: what is neither settled nor under way any more is then charged as it was reserved.
    """

    subject: str
    route_class: str
    units: int
    tokens: int
    usd: Decimal
    lasts: timedelta
    user_id: str | None
    credential_id: str | None


@dataclass(frozen=True, slots=True)
class Caps:
    """Up to where a reservation may go; None: no limit. `hard`: of units and tokens; `usd` is always hard: leave it None to observe.

    `counted`: Redis has decided about the units already.
    """

    day_units: int | None = None
    month_units: int | None = None
    day_tokens: int | None = None
    month_tokens: int | None = None
    month_usd: Decimal | None = None
    hard: bool = True
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Used:
    """What counts in one period: settled and held together. `direct_units`: plain ones that PostgreSQL admitted without Redis."""

    period: PeriodName
    starts_on: date
    plain_units: int = 0
    direct_units: int = 0
    entry_units: int = 0
    tokens: int = 0
    usd: Decimal = Decimal(0)

    @property
    def units(self) -> int:
        """All request units that count."""
        return self.plain_units + self.direct_units + self.entry_units


@dataclass(frozen=True, slots=True)
class Figures:
    """What the tenant has used today and this month (UTC)."""

    day: Used
    month: Used


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a reservation. `held`: made; `repeated`: the subject has an entry already; `refused`: nothing was taken.

    `cause`, `period`, `limit`, `used` say what was in the way; with `held`, what would have been, were the cap hard (an overage).
    `figures` are those after it.
    """

    state: Literal["held", "repeated", "refused"]
    figures: Figures
    cause: Literal["units", "tokens", "usd"] | None = None
    period: PeriodName | None = None
    limit: Decimal | None = None
    used: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Plain:
    """Units of plain requests as Redis counted them: the value for a tenant and UTC day, not a difference."""

    tenant_id: str
    day: date
    units: int
