"""Paging by the position of the last row: nothing is met twice or left out while rows come and go."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, tuple_

# Columns, each with whether it descends; the last one has no ties.
Order = Sequence[tuple[Any, bool]]


def behind(order: Order, position: Sequence[Any]) -> ColumnElement[bool]:
    """The rows that come after `position`, which has a value per column of the order."""
    columns, directions = [column for column, _ in order], {descending for _, descending in order}
    if len(directions) == 1:  # as one row, which an index can seek
        here, there = tuple_(*columns), tuple_(*position)
        return here < there if directions.pop() else here > there
    steps = []
    for place, (column, descending) in enumerate(order):
        equal = [before == value for before, value in zip(columns[:place], position[:place], strict=True)]
        steps.append(and_(*equal, column < position[place] if descending else column > position[place]))
    return or_(*steps)
