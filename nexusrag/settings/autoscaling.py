"""Autoscaling: recommendations, and who carries them out."""

from typing import Literal

from pydantic import Field

from nexusrag.settings.group import Group


class AutoscalingSettings(Group):
    autoscaling_enabled: bool = Field(True, description="evaluate profiles in the background")
    autoscaling_dry_run: bool = Field(True, description="only say what would be done")
    autoscaling_eval_interval_seconds: int = Field(30, ge=1, le=3600, description="pause between two evaluations of a profile")
    autoscaling_hysteresis_pct: float = Field(10, ge=0, le=90, description="how far from its target a signal must be to count")
    autoscaling_executor: Literal["noop", "kubernetes"] = Field("noop", description="who carries recommendations out")
    autoscaling_kubernetes_namespace: str = Field("default", description="namespace of the Deployment that is scaled")
    autoscaling_kubernetes_deployment: str = Field("nexusrag-api", description="name of the Deployment that is scaled")
    autoscaling_kubernetes_kubeconfig: str = Field("", description="path of a kubeconfig; empty: the pod's own service account")
    autoscaling_kubernetes_timeout_s: float = Field(5, gt=0, le=60, description="longest wait for the API server")
