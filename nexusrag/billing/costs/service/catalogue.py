"""The price catalogue of a tenant: what is added, ended and found to be in force."""

import json
from datetime import datetime
from decimal import Decimal, DecimalException
from typing import Any

from nexusrag.billing.costs import repository
from nexusrag.billing.costs.prices import METERED, Price
from nexusrag.billing.costs.schemas import PriceChange, PriceCreate, PriceInForce, PriceList, PriceOut
from nexusrag.billing.costs.terms import PRICES, TermsCache
from nexusrag.infra.database import Work
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.ids import new_id
from nexusrag.web.call import CallContext

_MOST = Decimal(10) ** 9
_PLACES = 12


async def create(call: CallContext, body: PriceCreate) -> PriceOut:
    """Add a price. Raises COST_PRICING_INVALID for one that cannot be, or that would be in force together with another."""
    price = Price(
        id=new_id("price"),
        version=body.version,
        provider=body.provider,
        component=body.component,
        rate_type=body.rate_type,
        rate_usd=await exact_number(call, "rate_value_usd", ErrorCode.COST_PRICING_INVALID),
        effective_from=clock.within_calendar(body.effective_from),
        effective_to=clock.within_calendar(body.effective_to) if body.effective_to else None,
        active=body.active,
    )
    if not 0 < price.rate_usd < _MOST:
        raise _invalid("rate_value_usd must be more than 0 and less than a billion dollars.", "rate_value_usd")
    await repository.lock_prices(call.db)
    await _check(call.db, price)
    row = await repository.insert_price(call.db, price, body.metadata_json, call.principal.subject_id)
    await _changed(call, price)
    return PriceOut.of_row(row)


async def change(call: CallContext, row: Any, body: PriceChange) -> PriceOut:
    """End a price, or take it out of use; what was charged by it stays charged."""
    given = body.model_fields_set
    await repository.lock_prices(call.db)
    row = await repository.price(call.db, row["id"])  # as it is now that nobody else changes it
    ends = (clock.within_calendar(body.effective_to) if body.effective_to else None) if "effective_to" in given else row["effective_to"]
    price = Price(
        row["id"], row["version"], row["provider"], row["component"], row["rate_type"], row["rate_value_usd"], row["effective_from"], ends,
        row["active"] if body.active is None else body.active,
    )  # fmt: skip
    await _check(call.db, price)
    changed = await repository.change_price(call.db, price.id, price.effective_to, price.active)
    await _changed(call, price)
    return PriceOut.of_row(changed)


async def listed(call: CallContext, active: bool | None) -> PriceList:
    """The tenant's own prices, the newest first, then those of the platform."""
    own = [PriceOut.of_row(row) for row in await repository.prices(call.db, active)]
    shared = [] if active is False else [PriceOut.of(price) for price in await _platform(call)]
    return PriceList(items=[*own, *shared])


async def in_force(
    call: CallContext, component: str, provider: str, model: str | None, rate_type: str | None, at: datetime | None
) -> PriceInForce:
    """What a unit costs at one instant. Raises COST_PRICING_NOT_FOUND where nothing is in force."""
    moment = clock.within_calendar(at) if at else clock.now()
    prices = (await call.of(TermsCache).of(call.db)).prices
    kinds = [rate_type] if rate_type else sorted(METERED.get(component, ()))
    for kind in kinds:
        found = prices.at(component, provider, model, kind, moment)
        if found is not None:
            return PriceInForce(at=moment, price=PriceOut.of(found))
    raise ApiError(
        ErrorCode.COST_PRICING_NOT_FOUND,
        "No price is in force for this; what is used is noted at 0 dollars.",
        {"component": component, "provider": provider},
    )


async def load(call: CallContext, price_id: str) -> Any:
    """A price of the tenant's own, or not found."""
    call.resource_id = price_id
    row = await repository.price(call.db, price_id)
    if row is None:
        raise not_found("price")
    return row


async def exact_number(call: CallContext, name: str, code: ErrorCode) -> Decimal:
    """The number of this name in the body as it was written, not as a binary fraction near it. At most 12 places."""
    written = json.loads(await call.request.body(), parse_float=Decimal, parse_int=Decimal)[name]
    try:
        if isinstance(written, bool):
            raise TypeError
        number = Decimal(written)
        exponent = number.normalize().as_tuple().exponent
    except (DecimalException, TypeError, ValueError) as error:
        raise ApiError(code, f"{name} must be a number.", {"field": name}) from error
    if not number.is_finite() or abs(number) >= _MOST or not isinstance(exponent, int) or exponent < -_PLACES:
        raise ApiError(code, f"{name} must be less than a billion and have at most {_PLACES} places.", {"field": name})
    return number


async def _check(work: Work, price: Price) -> None:
    if price.effective_to is not None and price.effective_to <= price.effective_from:
        raise _invalid("effective_to must be later than effective_from.", "effective_to")
    other = await repository.overlapping(work, price) if price.active else None
    if other is not None:
        raise ApiError(
            ErrorCode.COST_PRICING_INVALID,
            "Another active price of this provider, component and rate type is in force at the same time. End it first: "
            "PATCH /v1/admin/costs/pricing/catalog/{price_id}.",
            {"overlaps": other["id"], "version": other["version"]},
        )


async def _platform(call: CallContext) -> list[Price]:
    prices = (await call.of(TermsCache).of(call.db)).prices
    return [held[0] for _, held in sorted(prices.platform.items())]


async def _changed(call: CallContext, price: Price) -> None:
    await call.announce(PRICES, call.tenant_id)
    call.about(Resource.PRICE, price.id)
    call.record(
        version=price.version, provider=price.provider, component=price.component, rate_type=price.rate_type,
        rate_value_usd=str(price.rate_usd), effective_from=clock.iso(price.effective_from), effective_to=clock.iso(price.effective_to),
        active=price.active,
    )  # fmt: skip


def _invalid(message: str, field: str) -> ApiError:
    return ApiError(ErrorCode.COST_PRICING_INVALID, message, {"field": field})
