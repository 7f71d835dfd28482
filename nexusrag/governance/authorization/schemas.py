"""What goes over the wire about decisions."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Step(BaseModel):
    """One step of a decision, in the order in which a request passes them."""

    step: Literal["person", "role", "document", "denying_policies", "grants", "open_corpus", "allowing_policies", "default"]
    outcome: Literal["passes", "refuses", "gives", "gives_nothing"]
    detail: str
    evidence: list[dict[str, Any]] = []


class Explanation(BaseModel):
    """Whether somebody may do something, and each step of why."""

    allowed: bool
    principal: str
    resource: str
    action: str
    decided_by: str
    steps: list[Step]


class ImpactIn(BaseModel):
    """How far to look: the newest `documents`, up to `people` people, and the last `requests` on record."""

    model_config = ConfigDict(extra="forbid")
    documents: Annotated[int, Field(ge=0, le=100_000)] = 10_000
    people: Annotated[int, Field(ge=0, le=500)] = 100
    requests: Annotated[int, Field(ge=0, le=5_000)] = 500


class Change(BaseModel):
    """How many documents, and the ids of the first few."""

    count: int
    sample: list[str]


class PersonImpact(BaseModel):
    """What one person would gain or lose."""

    user_id: str
    email: str | None
    role: str
    action: str
    gains: Change
    loses: Change


class RequestImpact(BaseModel):
    """A request on record that would be decided otherwise."""

    request_id: str | None
    occurred_at: str
    user_id: str
    action: str
    resource_id: str | None
    now: Literal["allowed", "refused"]
    then: Literal["allowed", "refused"]


class Impact(BaseModel):
    """What would change if the policy were enabled (or, of an enabled one, what it changes now)."""

    policy_id: str
    documents_examined: int
    people_examined: int
    requests_examined: int
    people_affected: int
    people: list[PersonImpact]
    requests: list[RequestImpact]
