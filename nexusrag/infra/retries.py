"""What a failed call to an outside system says about it, and how often a process may ask again."""

from dataclasses import dataclass

_LIKE_OVERLOAD = (408, 429)
_COST = 10  # of one retry, in what one success earns
_SAVED = 10 * _COST
LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`theirs`: the failure counts against the other side. `again`: another attempt may help. `pause_s`: they asked for this pause."""

    theirs: bool
    again: bool
    pause_s: float | None = None


OURS = Verdict(theirs=False, again=False)
# Of a whole answer that means nothing: whoever sends that is not well, and it may have cost something.
NONSENSE = Verdict(theirs=True, again=False)


def of_status(status: int, retry_after: str | None = None) -> Verdict:
    """The verdict on an answer with a failing status: a 4xx is the caller's own fault, 408 and 429 excepted."""
    if status < 500 and status not in _LIKE_OVERLOAD:
        return OURS
    return Verdict(theirs=True, again=True, pause_s=seconds(retry_after))


def seconds(header: str | None) -> float | None:
    """A `Retry-After` in seconds; None for a date, which nobody sends here, and for nonsense."""
    return float(header) if header and header.isascii() and header.isdigit() and len(header) < 7 else None


class RetryBudget:
    """Retries of one process with one integration. A call that succeeds earns a tenth of one, up to ten, which are also there at the start.

    In an outage nothing is earned, so all calls together are asked again ten times and no more.
    """

    def __init__(self) -> None:
        self._saved = _SAVED

    def earn(self) -> None:
        self._saved = min(self._saved + 1, _SAVED)

    def spend(self) -> bool:
        """Whether one retry may be made, which it is then."""
        if self._saved < _COST:
            return False
        self._saved -= _COST
        return True
