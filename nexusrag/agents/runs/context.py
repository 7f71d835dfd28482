"""What the nodes of a run share and hand on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypedDict

from nexusrag.agents.runs.live import LiveRun
from nexusrag.agents.runs.metering import Meter
from nexusrag.inference.gateway.facade import Message, Usage
from nexusrag.infra.turns import Turn
from nexusrag.knowledge.retrieval.facade import Found, Passage, Where


@dataclass(slots=True)
class RunContext:
    """What a run was asked, and where its events go."""

    live: LiveRun
    where: Where
    message: str
    top_k: int
    audio: bool
    said_before: list[tuple[str, str]]
    meter: Meter
    max_output_tokens: int
    turn: Turn
    # What stages took from the run, as its last message tells.
    reduced: dict[str, Any] = field(default_factory=dict)
    # Events of stages, to be told first.
    notices: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    # Called with the code of the error by which the run ends.
    told_error: Callable[[str], None] = lambda code: None
    began: float = field(default_factory=perf_counter)
    timings_ms: dict[str, float] = field(default_factory=dict)
    receipt: dict[str, Any] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        """Note how far into the run this is, in milliseconds."""
        self.timings_ms[name] = round((perf_counter() - self.began) * 1000, 2)


class RunState(TypedDict, total=False):
    """What the nodes hand on."""

    history: tuple[Message, ...]
    question: str
    found: Found
    passages: tuple[Passage, ...]
    answer: str
    usage: Usage | None
    citations: list[dict[str, Any]]
    grounded: bool
