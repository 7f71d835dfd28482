"""Conditions, callers and documents made by chance, from so few names and values that they often meet; and what SQL says of them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from hypothesis import strategies as st

from nexusrag.access.policies.attributes import SCHEMAS
from nexusrag.access.policies.language import Limits, Node, parse
from nexusrag.access.policies.sql import to_sql
from nexusrag.access.policies.values import Outcome

DOCUMENT = SCHEMAS["document"]
LIMITS = Limits(bytes=100_000)
# Values that look alike, hold wildcards of other languages, or stand at the edges of their types.
TEXTS = ["", "a", "A", "ab", "b", "1", "true", "null", "%", "_", "a%", "a\\", "a\nb", "ä", "a\u0308", "Ω", "𝄞", "\uffff", "'; --", ":x"]
NUMBERS = [
    0, -0.0, 1, 1.0, -1, 0.1, 0.2, 0.1 + 0.2, 1e-7, 2**53, 2**53 + 1, 2.0**53, 2**60, float(2**60), 2**63, 10**23, 1e23, 1e308, 5e-324, 0.5
]  # fmt: skip
scalars = st.one_of(st.sampled_from(TEXTS), st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.booleans())
lists = st.lists(scalars, min_size=1, max_size=4)
values = st.recursive(
    st.one_of(scalars, scalars, st.none(), lists),
    lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), inside, max_size=3)),
    max_leaves=6,
)
labels = st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3)
documents = st.fixed_dictionaries(
    {}, optional={"id": values, "filename": values, "size_bytes": values, "labels": labels, "metadata": labels}
)
principals = st.fixed_dictionaries(
    {}, optional={"id": scalars, "role": scalars, "custom_role": st.none(), "groups": st.lists(scalars, max_size=3), "email": values}
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "time": st.sampled_from(["2026-03-29T00:59:59Z", "2026-06-15T12:00:00Z", "2026-06-20T23:30:00+02:00", "later", "2026-01-01"]),
        "ip": st.sampled_from(["10.0.0.1", "::ffff:10.9.9.9", "192.0.2.7", "2001:db8::1", "localhost", ""]),
        "method": scalars,
    },
)
_OF_CALL = [
    "principal.id",
    "principal.role",
    "principal.custom_role",
    "principal.groups",
    "principal.email",
    "request.method",
    "request.time",
]
_OF_ROW = ["id", "filename", "size_bytes", "labels.a", "labels.b", "labels.a.b", "metadata.c", "metadata.a.a.a", "owner"]
variables = st.sampled_from(_OF_CALL + [f"resource.{name}" for name in _OF_ROW] * 3).map(lambda name: {"var": name})
_texts, _ordered = st.sampled_from(TEXTS), st.one_of(st.sampled_from(TEXTS), st.sampled_from(NUMBERS))
PATTERNS = ["a", "^a", "b$", "^$|x", "a.b", "[^a]", "^(a|ä).?$", "\\%", "𝄞+", "\n"]


def _two(op: str, left: st.SearchStrategy[Any], right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(left, right).map(lambda operands: {op: list(operands)})


_tests = st.one_of(
    *(_two(op, st.one_of(variables, scalars), st.one_of(variables, scalars)) for op in ("eq", "ne")),
    *(_two(op, st.one_of(variables, _ordered), st.one_of(variables, _ordered)) for op in ("gt", "gte", "lt", "lte")),
    _two("in", st.one_of(variables, scalars), st.one_of(variables, lists)),
    _two("contains", st.one_of(variables, lists, _texts), st.one_of(variables, scalars)),
    _two("starts_with", st.one_of(variables, _texts), st.one_of(variables, _texts)),
    _two("matches", st.one_of(variables, _texts), st.sampled_from(PATTERNS)),
    variables.map(lambda var: {"exists": var}),
    _two(
        "time_between",
        st.just({"var": "request.time"}),
        st.sampled_from([{"start": "09:00", "end": "18:00"}, {"start": "22:00", "end": "02:00", "tz": "Europe/Berlin", "days": ["sat"]}]),
    ),
    _two("ip_in", st.just({"var": "request.ip"}), st.sampled_from([["10.0.0.0/8"], ["2001:db8::/32", "192.0.2.7"]])),
)
conditions = st.recursive(
    _tests,
    lambda inside: st.one_of(
        st.lists(inside, min_size=1, max_size=3).map(lambda nodes: {"all": nodes}),
        st.lists(inside, min_size=1, max_size=3).map(lambda nodes: {"any": nodes}),
        inside.map(lambda node: {"not": node}),
    ),
    max_leaves=6,
).filter(lambda condition: json.dumps(condition).count("{") < 40)
COLUMNS = {name: f"(r.row -> '{name}')" for name in sorted(DOCUMENT.plain | DOCUMENT.open)}


def read(condition: Any) -> Node:
    return parse(condition, DOCUMENT, Limits(bytes=100_000, depth=20))


async def of_rows(database: "asyncpg.Connection[Any]", node: Node, rows: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    """What PostgreSQL makes of a condition about `resource`, for each of the documents."""
    constants: list[Any] = []
    expression = to_sql(node, COLUMNS, constants)
    return await in_sql(database, expression, json.dumps(constants), rows)


async def in_sql(database: "asyncpg.Connection[Any]", expression: str, constants: str, rows: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    statement = (
        f"select {expression} from jsonb_array_elements($2::jsonb) with ordinality r (row, n) where $1::jsonb is not null order by n"
    ).replace(":policy_values", "$1")
    found = await database.fetch(statement, constants, json.dumps(list(rows)))
    return [record[0] for record in found]
