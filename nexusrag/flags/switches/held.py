"""What the switches say at a moment: forced flags first, then stored rows, then the settings."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from nexusrag.kernel.switches import WRITE_FREEZE, Rollout, Switch
from nexusrag.settings.rollouts import RolloutSettings

# A flag of this scope holds for everyone; any other scope is a tenant's id.
EVERYONE = "*"


@dataclass(frozen=True, slots=True)
class Forced:
    """A flag that an operator forced; `until` is a moment of this process's own clock, which nobody sets."""

    value: Any
    until: float

    @property
    def left_s(self) -> float:
        return max(self.until - monotonic(), 0.0)


@dataclass(frozen=True, slots=True)
class Held:
    """All flags as last read. Forced ones end by themselves, without being read again."""

    settings: RolloutSettings
    forced: Mapping[tuple[str, str], Forced] = field(default_factory=dict)
    stored: Mapping[str, Any] = field(default_factory=dict)

    def forced_for(self, key: str, tenant_id: str | None) -> Forced | None:
        """The forced flag that holds for the tenant: its own, or everyone's."""
        for scope in (tenant_id, EVERYONE):
            found = self.forced.get((key, scope)) if scope is not None else None
            if found is not None and found.left_s > 0:
                return found
        return None

    def is_on(self, switch: Switch, tenant_id: str | None = None) -> bool:
        """Whether the kill switch is on for the tenant."""
        forced = self.forced_for(switch, tenant_id)
        if forced is not None:
            return forced.value is True
        return bool(self.stored.get(switch, of_settings(self.settings, switch)))

    def percentage(self, rollout: Rollout) -> float:
        """Of how many tenants in a hundred the canary is."""
        return float(self.stored.get(rollout, of_settings(self.settings, rollout)))

    def includes(self, rollout: Rollout, tenant_id: str) -> bool:
        """Whether the tenant is one of them: always the same ones, and never one less when the percentage grows."""
        return bucket(rollout, tenant_id) * 100 < self.percentage(rollout) * 2**64

    @property
    def frozen(self) -> bool:
        return (freeze := self.forced_for(WRITE_FREEZE, None)) is not None and freeze.value is True

    def source(self, key: Switch | Rollout, tenant_id: str | None = None) -> str:
        """Where the platform's value, or the tenant's, comes from."""
        if self.forced_for(key, tenant_id) is not None:
            return "forced"
        if key in self.stored:
            return "stored"
        return "environment" if _field(key) in self.settings.model_fields_set else "default"

    def speaks(self, tenant_id: str) -> bool:
        """Whether answers are spoken for the tenant."""
        return not self.is_on(Switch.TTS, tenant_id) and self.includes(Rollout.TTS, tenant_id)

    def asks_others(self, tenant_id: str) -> bool:
        """Whether providers other than our own index are asked for the tenant."""
        return not self.is_on(Switch.EXTERNAL_RETRIEVAL, tenant_id) and self.includes(Rollout.EXTERNAL_RETRIEVAL, tenant_id)


def bucket(rollout: Rollout, tenant_id: str) -> int:
    """The tenant's place among 2**64. Each canary has an order of its own, so that not always the same tenants go first."""
    return int.from_bytes(hashlib.sha256(f"{rollout.value}\0{tenant_id}".encode()).digest()[:8], "big")


def of_settings(settings: RolloutSettings, key: Switch | Rollout) -> Any:
    return getattr(settings, _field(key))


def _field(key: Switch | Rollout) -> str:
    return key.value.replace(".", "_") + ("_pct" if isinstance(key, Rollout) else "")
