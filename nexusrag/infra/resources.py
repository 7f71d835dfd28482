"""The things a process opens once (database, queue, models …), found by their type."""

from typing import Any, TypeVar

T = TypeVar("T")


class Resources:
    """A typed bag: `resources.put(Database, database)`, then `resources.get(Database)`. A missing one is a programming error."""

    def __init__(self) -> None:
        self._held: dict[type[Any], Any] = {}

    def put(self, kind: type[T], value: T) -> T:
        self._held[kind] = value
        return value

    def get(self, kind: type[T]) -> T:
        held: T = self._held[kind]
        return held
