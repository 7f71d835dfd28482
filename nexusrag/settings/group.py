"""The base of every group of settings: a frozen model whose field names are the environment variables in lower case."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """One subject's settings. `RUN_MAX_CONCURRENCY` in the environment is the field `run_max_concurrency`."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)
