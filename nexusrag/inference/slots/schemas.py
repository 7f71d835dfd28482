"""Model slots on the wire."""

from typing import Literal

from pydantic import BaseModel

from nexusrag.inference.slots.slots import Taken


class TenantSlots(BaseModel):
    tenant_id: str
    in_use: int
    waiting: int


class SlotsOut(BaseModel):
    """Calls of the language model at this moment. `total` and `available` are null where there is no limit.

    `scope` is `process` when Redis is away: then only the process that answers is known, and it gives out its share.
    """

    in_use: int
    total: int | None
    available: int | None
    waiting: int
    tenants: list[TenantSlots]
    scope: Literal["installation", "process"]

    @classmethod
    def of(cls, total: int, taken: Taken) -> "SlotsOut":
        holders, waiters = taken.holders, taken.waiters
        return cls(
            in_use=holders.total(),
            total=total or None,
            available=max(total - holders.total(), 0) if total else None,
            waiting=waiters.total(),
            tenants=[
                TenantSlots(tenant_id=tenant, in_use=holders[tenant], waiting=waiters[tenant]) for tenant in sorted({*holders, *waiters})
            ],
            scope="installation" if taken.everywhere else "process",
        )


class SlotsResetOut(SlotsOut):
    """`freed`: how many places were taken before."""

    freed: int
