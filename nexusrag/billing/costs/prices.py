"""Prices and which of them is in force: decided here, from what a tenant and the platform have, for one instant."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, get_args

RateType = Literal["per_1k_tokens", "per_char", "per_mb", "per_request", "per_second"]
RATE_TYPES: tuple[str, ...] = get_args(RateType)
BYTES_PER_MB = 1_000_000
INTERNAL = "internal"
# What runs within the installation is `internal` where it has no price under its own name.
_WITHIN = frozenset({"extractive", "fake", "local", "local_pgvector", "installation"})
# What is ever metered, and by what it can be priced. `llm.input` and `llm.output` come before `llm`.
METERED: dict[str, frozenset[str]] = {
    "llm": frozenset({"per_1k_tokens", "per_request"}),
    "llm.input": frozenset({"per_1k_tokens"}),
    "llm.output": frozenset({"per_1k_tokens"}),
    "embedding": frozenset({"per_1k_tokens", "per_request"}),
    "retrieval": frozenset({"per_request"}),
    "tts": frozenset({"per_char", "per_second", "per_request"}),
    "storage": frozenset({"per_mb"}),
}
_ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Price:
    """In force from `effective_from` up to, not including, `effective_to`. `provider` may name one model: `openai/gpt-4o`."""

    id: str
    version: str
    provider: str
    component: str
    rate_type: str
    rate_usd: Decimal
    effective_from: datetime
    effective_to: datetime | None = None
    active: bool = True

    def covers(self, at: datetime) -> bool:
        return self.active and self.effective_from <= at and (self.effective_to is None or at < self.effective_to)

    @property
    def is_built_in(self) -> bool:
        return self.id.startswith("builtin:")


Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Prices:
    """What one tenant pays. `estimated_token`: what a token counts that was estimated at four characters.

    `own` and `platform` hold the prices of each provider, component and rate type, the newest first.
    """

    own: dict[Key, tuple[Price, ...]] = field(default_factory=dict)
    platform: dict[Key, tuple[Price, ...]] = field(default_factory=dict)
    estimated_token: Decimal = Decimal(1)

    def at(self, component: str, provider: str, model: str | None, rate_type: str, at: datetime) -> Price | None:
        """The price in force: the tenant's own before the platform's, a model's before its provider's, `llm.input` before `llm`."""
        for book in (self.own, self.platform):
            for named in _providers(provider, model):
                for part in _components(component):
                    for price in book.get((named, part, rate_type), ()):
                        if price.covers(at):
                            return price
        return None


def book(prices: Iterable[Price]) -> dict[Key, tuple[Price, ...]]:
    """By provider, component and rate type, in an order that the same prices always have: the latest beginning first."""
    found: dict[Key, list[Price]] = {}
    for price in prices:
        found.setdefault((price.provider, price.component, price.rate_type), []).append(price)
    return {key: tuple(sorted(held, key=lambda one: (one.effective_from, one.id), reverse=True)) for key, held in found.items()}


def _providers(provider: str, model: str | None) -> Iterator[str]:
    if model:
        yield model if model.startswith(f"{provider}/") else f"{provider}/{model}"
    yield provider
    if provider in _WITHIN:
        yield INTERNAL


def _components(component: str) -> Iterator[str]:
    yield component
    whole, dot, _ = component.partition(".")
    if dot:
        yield whole


# What runs within the installation costs nothing more, until somebody says what it is worth.
BUILT_IN = tuple(
    Price(f"builtin:{component}:{rate_type}", "builtin", INTERNAL, component, rate_type, Decimal(0), _ALWAYS)
    for component, rate_type in (
        ("llm", "per_1k_tokens"), ("embedding", "per_1k_tokens"), ("retrieval", "per_request"), ("tts", "per_char"), ("storage", "per_mb"),
    )
)  # fmt: skip
