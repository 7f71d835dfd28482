"""Python and PostgreSQL give the same for every condition and document, whole or after what is known was put in."""

import json
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.evaluate import compiled, evaluate
from nexusrag.access.policies.language import Logic, Node
from nexusrag.access.policies.residual import merged, partial, settled
from tests.access.policies import conditions as chance

CALL = {"principal", "request"}
found_by_chance = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
@found_by_chance
@given(
    condition=chance.conditions,
    principal=chance.principals,
    request_=chance.requests,
    rows=st.lists(chance.documents, min_size=1, max_size=8),
)
async def test_a_residual_in_sql_gives_what_the_whole_condition_gives_in_python(
    database: "asyncpg.Connection[Any]", condition: Any, principal: Any, request_: Any, rows: list[Any]
) -> None:
    node = chance.read(condition)
    whole = [compiled(node)(Attributes(principal, request_, row)) for row in rows]
    left = partial(node, Attributes(principal, request_), CALL)
    if left is None or isinstance(left, bool):
        assert whole == [left] * len(rows)
        return
    assert [compiled(left)(Attributes({}, {}, row)) for row in rows] == whole
    assert await chance.of_rows(database, left, rows) == whole
    # What PostgreSQL stored and sends back is to be judged as what was sent.
    again = json.loads(await database.fetchval("select $1::jsonb::text", json.dumps(rows)))
    assert [compiled(left)(Attributes({}, {}, row)) for row in again] == whole


@found_by_chance
@given(condition=chance.conditions, principal=chance.principals, request_=chance.requests, row=chance.documents)
def test_what_is_known_may_be_put_in_bit_by_bit(condition: Any, principal: Any, request_: Any, row: Any) -> None:
    node, attributes = chance.read(condition), Attributes(principal, request_, row)
    left = partial(node, Attributes(principal, {}), {"principal"})
    if isinstance(left, Node):
        left = partial(left, Attributes(principal, request_), CALL)
    outcome = compiled(node)(attributes)
    assert outcome is (compiled(left)(attributes) if isinstance(left, Node) else left)
    if isinstance(left, Node):
        for unknown in (False, True):
            rest = settled(left, unknown)
            applies = rest if rest is None or isinstance(rest, bool) else compiled(rest)(attributes)
            assert (unknown if applies is None else applies) is (unknown if outcome is None else outcome)


@found_by_chance
@given(condition=chance.conditions, principal=chance.principals, request_=chance.requests, row=chance.documents)
def test_a_trace_ends_with_the_same_outcome_and_says_why_it_is_unknown(condition: Any, principal: Any, request_: Any, row: Any) -> None:
    node, attributes, trace = chance.read(condition), Attributes(principal, request_, row), []
    outcome = evaluate(node, attributes, trace)
    assert outcome is compiled(node)(attributes) is trace[-1].outcome
    assert all(step.reason for step in trace if step.outcome is None and step.op not in ("all", "any", "not"))


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(st.sampled_from(chance.TEXTS), min_size=1, max_size=6), rows=st.lists(chance.documents, min_size=1, max_size=8))
async def test_equalities_merged_into_one_give_what_they_gave_together(
    database: "asyncpg.Connection[Any]", texts: list[str], rows: list[Any]
) -> None:
    equalities = [chance.read({"eq": [{"var": "resource.labels.a"}, text]}) for text in texts]
    (one,) = merged(equalities)
    whole = [compiled(Logic("any", tuple(equalities)))(Attributes({}, {}, row)) for row in rows]
    assert [compiled(one)(Attributes({}, {}, row)) for row in rows] == whole
    assert await chance.of_rows(database, one, rows) == whole
