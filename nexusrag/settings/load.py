"""Reads every group from the environment and `.env`, and reports all errors at once, one line each."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from nexusrag.settings.auth import AuthSettings
from nexusrag.settings.autoscaling import AutoscalingSettings
from nexusrag.settings.billing import BillingSettings
from nexusrag.settings.costs import CostSettings
from nexusrag.settings.embeddings import EmbeddingSettings
from nexusrag.settings.group import Group
from nexusrag.settings.identity import IdentitySettings
from nexusrag.settings.ingestion import IngestionSettings
from nexusrag.settings.llm import LlmSettings
from nexusrag.settings.maintenance import MaintenanceSettings
from nexusrag.settings.outbound import OutboundSettings
from nexusrag.settings.rates import RateSettings
from nexusrag.settings.resilience import ResilienceSettings
from nexusrag.settings.retrieval import RetrievalSettings
from nexusrag.settings.rollouts import RolloutSettings
from nexusrag.settings.runs import RunSettings
from nexusrag.settings.runtime import RuntimeSettings
from nexusrag.settings.sla import SlaSettings
from nexusrag.settings.speech import SpeechSettings
from nexusrag.settings.storage import StorageSettings
from nexusrag.settings.stores import StoreSettings
from nexusrag.settings.web import WebSettings

# Older names, still read where the name of today is not set.
_OLDER = {"RUN_BULKHEAD_MAX_CONCURRENCY": "RUN_MAX_CONCURRENCY", "INGEST_BULKHEAD_MAX_CONCURRENCY": "INGEST_MAX_CONCURRENCY"}


class SettingsError(Exception):
    """The environment cannot be used. `lines` holds one message per fault, each naming its variable."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Settings(BaseModel):
    """All settings of one process. `home` is the directory of an installation: data, sockets and secrets."""

    model_config = ConfigDict(frozen=True)

    home: Path
    runtime: RuntimeSettings
    stores: StoreSettings
    auth: AuthSettings
    identity: IdentitySettings
    web: WebSettings
    rates: RateSettings
    ingestion: IngestionSettings
    embeddings: EmbeddingSettings
    retrieval: RetrievalSettings
    llm: LlmSettings
    runs: RunSettings
    speech: SpeechSettings
    storage: StorageSettings
    outbound: OutboundSettings
    rollouts: RolloutSettings
    billing: BillingSettings
    maintenance: MaintenanceSettings
    costs: CostSettings
    resilience: ResilienceSettings
    sla: SlaSettings
    autoscaling: AutoscalingSettings


def groups() -> dict[str, type[Group]]:
    """Attribute of `Settings` → its group, in the order of `.env.example`."""
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group)
    }


def load(home: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Settings from `env` (default: the process environment over `.env` in the working directory).

    An empty variable counts as not set, and a setting wins over its older name. `home` wins over `NEXUSRAG_HOME`, which wins over `./var`.
    Raises SettingsError with one line per fault.
    """
    source = {**dotenv_values(".env"), **os.environ} if env is None else dict(env)
    given = {key: value for key, value in source.items() if value}
    given = {newer: given[older] for older, newer in _OLDER.items() if older in given} | given
    values: dict[str, Any] = {"home": (home or Path(given.get("NEXUSRAG_HOME", "var"))).absolute()}
    faults: list[str] = []
    for name, group in groups().items():
        raw = {field: given[field.upper()] for field in group.model_fields if field.upper() in given}
        try:
            values[name] = group.model_validate(raw)
        except ValidationError as error:
            faults += [_line(group, fault, raw) for fault in error.errors()]
    if faults:
        raise SettingsError(faults)
    return Settings(**values)


def _line(group: type[Group], fault: Any, raw: Mapping[str, str]) -> str:
    field = str(fault["loc"][0]) if fault["loc"] else ""
    if not field:
        return str(fault["msg"]).removeprefix("Value error, ")
    secret = group.model_fields[field].annotation is SecretStr
    shown = "" if secret or field.endswith("_url") or field not in raw else f" (got {raw[field]!r})"
    return f"{field.upper()}: {str(fault['msg']).removeprefix('Value error, ')}{shown}"
