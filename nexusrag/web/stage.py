"""The shape of a stage. Domains define stages; pipeline.py orders them; the route class runs them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate


def _always(gate: Gate, method: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Stage:
    """One check or step on the way to the handler. `enter` refuses by raising ApiError.

    `applies` is asked once per route, when the application is built. A stage that sets `call.replay` ends the way in: the
    stored answer is sent and nothing is executed.
    """

    name: str
    enter: Callable[[CallContext], Awaitable[None]]
    applies: Callable[[Gate, str], bool] = _always


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`before` run without a transaction, `within` inside the request's one, `closing` after the handler and before the commit.

    `denied` is told of every refusal once the transaction is rolled back.
    """

    before: tuple[Stage, ...]
    within: tuple[Stage, ...]
    closing: tuple[Callable[[CallContext, int, bytes], Awaitable[None]], ...]
    denied: Callable[[CallContext, BaseException], Awaitable[None]]
