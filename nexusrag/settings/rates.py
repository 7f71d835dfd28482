"""Rates, slots, and what happens while Redis, which counts them, is away."""

from typing import Literal

from pydantic import Field

from nexusrag.kernel.traffic import RouteClass
from nexusrag.settings.group import Group

_MOST = 1_000_000.0


class RateSettings(Group):
    rate_limit_enabled: bool = Field(True, description="limit rates, simultaneous requests of a tenant, and addresses; quotas count anyway")
    rl_fail_mode: Literal["open", "closed"] = Field(
        "open", description="without Redis: `open` admits (quotas are then counted in PostgreSQL), `closed` answers 503"
    )
    rl_key_run_rps: float = Field(1, gt=0, le=_MOST, allow_inf_nan=False, description="runs per second of one key, sustained")
    rl_key_run_burst: int = Field(5, ge=1, le=_MOST, description="runs of one key at once")
    rl_tenant_run_rps: float = Field(3, gt=0, le=_MOST, allow_inf_nan=False, description="runs per second of a tenant, sustained")
    rl_tenant_run_burst: int = Field(15, ge=1, le=_MOST, description="runs of a tenant at once")
    rl_key_mutation_rps: float = Field(2, gt=0, le=_MOST, allow_inf_nan=False, description="writes per second of one key, sustained")
    rl_key_mutation_burst: int = Field(10, ge=1, le=_MOST, description="writes of one key at once")
    rl_tenant_mutation_rps: float = Field(5, gt=0, le=_MOST, allow_inf_nan=False, description="writes per second of a tenant, sustained")
    rl_tenant_mutation_burst: int = Field(25, ge=1, le=_MOST, description="writes of a tenant at once")
    rl_key_read_rps: float = Field(5, gt=0, le=_MOST, allow_inf_nan=False, description="reads per second of one key, sustained")
    rl_key_read_burst: int = Field(20, ge=1, le=_MOST, description="reads of one key at once")
    rl_tenant_read_rps: float = Field(15, gt=0, le=_MOST, allow_inf_nan=False, description="reads per second of a tenant, sustained")
    rl_tenant_read_burst: int = Field(60, ge=1, le=_MOST, description="reads of a tenant at once")
    rl_key_ops_rps: float = Field(2, gt=0, le=_MOST, allow_inf_nan=False, description="operators' requests per second of a key, sustained")
    rl_key_ops_burst: int = Field(10, ge=1, le=_MOST, description="operators' requests of one key at once")
    rl_tenant_ops_rps: float = Field(4, gt=0, le=_MOST, allow_inf_nan=False, description="the same of a tenant, sustained")
    rl_tenant_ops_burst: int = Field(20, ge=1, le=_MOST, description="the same of a tenant at once")
    rl_address_rps: float = Field(
        10, gt=0, le=_MOST, allow_inf_nan=False, description="public requests and failed authentications per second of one address"
    )
    rl_address_burst: int = Field(100, ge=1, le=_MOST, description="the same at once")
    tenant_max_concurrency: int = Field(
        100, ge=0, le=_MOST, description="requests of one tenant under way at once, in all processes, streams included; 0: no limit"
    )
    rl_redis_prefix: str = Field("nexusrag:rl", min_length=1, max_length=128, description="begins the names of all these keys in Redis")

    def key_rate(self, route_class: RouteClass) -> tuple[float, int]:
        """Requests per second and burst of one credential."""
        return self._rate("key", route_class)

    def tenant_rate(self, route_class: RouteClass) -> tuple[float, int]:
        """The same of a tenant."""
        return self._rate("tenant", route_class)

    def _rate(self, of: str, route_class: RouteClass) -> tuple[float, int]:
        name = f"rl_{of}_{route_class.value}"
        return float(getattr(self, f"{name}_rps")), int(getattr(self, f"{name}_burst"))
