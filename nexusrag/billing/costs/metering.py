"""What was used, by kind of work, and how it becomes lines of the ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal

from nexusrag.billing.costs.prices import BYTES_PER_MB, Prices
from nexusrag.billing.ledger.facade import Line
from nexusrag.kernel import money

# Speech, where no length was told: about 150 words a minute.
_CHARACTERS_PER_SECOND = 15
_NOTHING = Decimal(0)
_PER = {"per_1k_tokens": 1000, "per_mb": BYTES_PER_MB}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """One piece of work at one provider. Only quantities that the component has are looked at.

    llm: `input_tokens`, `output_tokens`; embedding: `input_tokens`; retrieval: `requests`; tts: `characters`, `seconds` where they are
    known; storage: `stored_bytes`. Every component may also be priced by the request. `estimated`: the provider told no usage; tokens
    are then those of `providers.llm.port.estimate_tokens`, and what they are worth is COST_ESTIMATOR_TOKEN_CHARS_RATIO's to say.
    """

    component: str
    provider: str
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 1
    characters: int = 0
    seconds: Decimal | None = None
    stored_bytes: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class _Quantity:
    """`told` is the name on the line, which tells what was said from what was read; `price_of` narrows the component."""

    rate_type: str
    told: str
    amount: Decimal
    natural: bool = True
    price_of: str = ""
    guessed: bool = False


def priced(prices: Prices, metered: Sequence[Metered], at: datetime) -> list[Line]:
    """Lines for what was used at `at`: one for each quantity that has a price, each exact to 12 places.

    What has no price in force is noted at 0 dollars without a price and as estimated. Never raises for lack of a price.
    """
    return [line for one in metered for line in _lines(prices, one, at)]


def total(lines: Sequence[Line]) -> Decimal:
    return sum((line.usd for line in lines), _NOTHING)


def _lines(prices: Prices, used: Metered, at: datetime) -> Iterator[Line]:
    found = [
        (quantity, prices.at(quantity.price_of or used.component, used.provider, used.model, quantity.rate_type, at))
        for quantity in _quantities(prices, used)
    ]
    kinds = {quantity.rate_type for quantity, price in found if price is not None}
    for quantity, price in found:
        elsewhere = bool(kinds - {quantity.rate_type})  # by another measure it has a price
        if price is None and not quantity.price_of and (elsewhere or not quantity.natural):
            continue
        yield Line(
            component=used.component,  # type: ignore[arg-type]  # callers give one of the ledger's
            provider=used.provider,
            model=used.model,
            rate_type=quantity.told,
            quantity=quantity.amount,
            rate_usd=price.rate_usd if price else None,
            price_id=price.id if price else None,
            usd=money.times(price.rate_usd, quantity.amount, _PER.get(quantity.rate_type, 1)) if price else _NOTHING,
            estimated=used.estimated or quantity.guessed or (price is None and not elsewhere),
        )


def _quantities(prices: Prices, used: Metered) -> Iterator[_Quantity]:
    """In the component's own measure first; only that is noted where nothing has a price."""
    match used.component:
        case "llm":
            for side, tokens in (("input", used.input_tokens), ("output", used.output_tokens)):
                yield _Quantity("per_1k_tokens", f"per_1k_{side}_tokens", _tokens(prices, used, tokens), price_of=f"llm.{side}")
        case "embedding":
            yield _Quantity("per_1k_tokens", "per_1k_tokens", _tokens(prices, used, used.input_tokens))
        case "tts":
            yield _Quantity("per_char", "per_char", Decimal(used.characters))
            seconds = used.seconds if used.seconds is not None else Decimal(used.characters) / _CHARACTERS_PER_SECOND
            yield _Quantity("per_second", "per_second", round(seconds, 6), natural=False, guessed=used.seconds is None)
        case "storage":
            yield _Quantity("per_mb", "per_mb", Decimal(used.stored_bytes))
    if used.requests and used.component != "storage":
        yield _Quantity("per_request", "per_request", Decimal(used.requests), natural=used.component == "retrieval")


def _tokens(prices: Prices, used: Metered, tokens: int) -> Decimal:
    if not used.estimated:
        return Decimal(tokens)
    return (tokens * prices.estimated_token).to_integral_value(ROUND_CEILING)
