"""Who carries a recommendation out: nobody, or Kubernetes through the scale of a Deployment (docs/decisions/0026-sla.md)."""

import asyncio
from importlib import import_module
from typing import Any, Protocol

import structlog

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings.autoscaling import AutoscalingSettings

log = structlog.get_logger(__name__)


class Executor(Protocol):
    """Raises SLA_AUTOSCALING_EXECUTOR_UNAVAILABLE when it cannot act."""

    name: str

    async def replicas(self) -> int | None:
        """How many there should be at present, None where nobody knows."""

    async def scale(self, replicas: int) -> None: ...


class Noop:
    """Does nothing and says so."""

    name = "noop"

    async def replicas(self) -> int | None:
        return None

    async def scale(self, replicas: int) -> None:
        log.info("autoscaling.noop", replicas=replicas)


class Kubernetes:
    """Patches the scale subresource, so that it needs no right but that one."""

    name = "kubernetes"

    def __init__(self, settings: AutoscalingSettings) -> None:
        self._settings = settings

    async def replicas(self) -> int | None:
        scale = await self._ask("read_namespaced_deployment_scale")
        if scale is None or scale.spec is None:
            raise unavailable("The API server's answer is no scale.", {"executor": self.name})
        return int(scale.spec.replicas or 0)

    async def scale(self, replicas: int) -> None:
        await self._ask("patch_namespaced_deployment_scale", {"spec": {"replicas": replicas}})

    async def _ask(self, operation: str, *body: Any) -> Any:
        # Several hundred modules, which take a second and are needed by those installations alone that scale themselves.
        kubernetes = await asyncio.to_thread(import_module, "nexusrag.operations.autoscaling.kubernetes")
        try:
            return await kubernetes.ask(self._settings, operation, *body)
        except kubernetes.FAILURES as error:
            status = getattr(error, "status", None)
            log.warning("autoscaling.unavailable", error=type(error).__name__, status=status)
            told = {"executor": self.name, "error": type(error).__name__, **({"status": status} if status else {})}
            raise unavailable("Kubernetes did not scale the Deployment; the log says why.", told) from error


def executor_of(settings: AutoscalingSettings) -> Executor:
    return Kubernetes(settings) if settings.autoscaling_executor == "kubernetes" else Noop()


def unavailable(message: str, details: dict[str, Any]) -> ApiError:
    return ApiError(ErrorCode.SLA_AUTOSCALING_EXECUTOR_UNAVAILABLE, message, details, headers={"Retry-After": "30"})
