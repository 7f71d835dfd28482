"""Statements of hot paths: built and rendered once, then run on the driver with named values."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, Text, bindparam, text
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.sql.expression import ClauseElement

from nexusrag.infra.database import Work

_DIALECT = dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its constructor untyped


def expression(sql: str, parameter: str) -> ColumnElement[bool]:
    """A boolean expression made by the product itself, with the one text parameter that it may name."""
    made = text(sql)
    if f":{parameter}" in sql:
        made = made.bindparams(bindparam(parameter, type_=Text))
    return cast(ColumnElement[bool], made.self_group())


class Prepared:
    """A statement whose parameters are `bindparam`s by name. Rendering costs milliseconds, so keep it."""

    def __init__(self, statement: ClauseElement) -> None:
        compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        self.sql = str(compiled)
        self._names: Sequence[str] = compiled.positiontup or ()  # type: ignore[attr-defined]  # of SQL compilers
        self._fixed: Mapping[str, Any] = {name: value for name, value in compiled.params.items() if value is not None}

    async def fetch(self, work: Work, values: Mapping[str, Any]) -> list[Any]:
        """The rows. A parameter without a value is a KeyError, never a NULL."""
        rows: list[Any] = await work.raw.fetch(
            self.sql, *[self._fixed[name] if name in self._fixed else values[name] for name in self._names]
        )
        return rows
