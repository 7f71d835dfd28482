"""Decisions by many policies, and rows judged in the database. Decisions wait for nothing, so they are timed by what they compute."""

import json
import random
import statistics
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Any

import pytest

from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.decide import Effect, PolicySet, read_policy
from nexusrag.access.policies.language import Limits
from tests.support.installation import Servers

ROUNDS = 1_000
LIMITS = Limits()
TEAMS, LEVELS = [f"team-{number}" for number in range(500)], ["public", "internal", "secret"]


def var(name: str) -> dict[str, str]:
    return {"var": name}


def usual(chosen: random.Random, number: int) -> Any:
    """What admins write: somebody, somewhere, at some time."""
    return chosen.choice(
        [
            {"eq": [var("resource.labels.team"), chosen.choice(TEAMS)]},
            {"all": [{"eq": [var("principal.role"), "editor"]}, {"eq": [var("resource.labels.team"), chosen.choice(TEAMS)]}]},
            {"all": [{"contains": [var("principal.groups"), f"group-{number}"]}, {"starts_with": [var("resource.filename"), "hr-"]}]},
            {
                "all": [
                    {"eq": [var("principal.id"), f"user-{number}"]},
                    {"time_between": [var("request.time"), {"start": "09:00", "end": "18:00"}]},
                ]
            },
            {
                "all": [
                    {"in": [var("resource.labels.level"), ["secret", f"level-{number}"]]},
                    {"eq": [var("principal.email"), f"{number}@x"]},
                ]
            },
            {"all": [{"eq": [var("resource.labels.team"), chosen.choice(TEAMS)]}, {"not": {"ip_in": [var("request.ip"), ["10.0.0.0/8"]]}}]},
        ]
    )


def unfriendly(chosen: random.Random, number: int) -> Any:
    """Little that an index could use: four in ten are asked one by one."""
    return chosen.choice(
        [
            {"contains": [var("resource.filename"), f"x{number}"]},
            {"starts_with": [var("resource.filename"), f"x{number}"]},
            {"any": [{"eq": [var("resource.labels.team"), f"x{number}"]}, {"eq": [var("principal.id"), f"x{number}"]}]},
            {"gt": [var("resource.size_bytes"), 10**9 + number]},
            {"not": {"exists": var("resource.labels.team")}},
        ]
    )


def policies(count: int, condition: Callable[[random.Random, int], Any]) -> PolicySet:
    chosen = random.Random(count)
    made = []
    for number in range(count):
        effect: Effect = chosen.choice(["allow", "deny"])
        # Denials speak of what is there: one that is unknown would end the decision at once.
        wanted = condition(chosen, number)
        made.append(read_policy(f"p{number}", effect, "document", "read", number % 7, wanted, LIMITS))
        assert made[-1].fault is None
    return PolicySet(made)


def somebody(chosen: random.Random) -> Attributes:
    return Attributes(
        {
            "id": f"user-{chosen.randrange(20_000)}",
            "tenant_id": "t",
            "role": chosen.choice(["reader", "editor"]),
            "custom_role": "",
            "groups": [f"group-{chosen.randrange(20_000)}" for _ in range(20)],
            "group_ids": [f"grp_{number}" for number in range(20)],
            "email": "somebody@example.org",
            "credential": "session",
            "credential_id": "ses_1",
        },
        {"time": "2026-01-05T12:00:00Z", "ip": "10.1.2.3", "method": "GET", "path": "/v1/documents/d", "action": "documents.read"},
        {
            "id": "d",
            "filename": "handbook.pdf",
            "size_bytes": 1000,
            "labels": {"team": "none", "level": chosen.choice(LEVELS)},
        },
    )


@pytest.mark.parametrize(
    ("count", "condition", "limit_ms"),
    [(100, usual, 1), (100, unfriendly, 1), (10_000, usual, 5), (10_000, unfriendly, 5)],
    ids=["100-usual", "100-unfriendly", "10000-usual", "10000-unfriendly"],
)
def test_a_decision_is_quick(count: int, condition: Callable[[random.Random, int], Any], limit_ms: float) -> None:
    began = thread_time()
    every, chosen = policies(count, condition), random.Random(1)
    every.decide("document", "read", somebody(chosen))
    ready = (thread_time() - began) * 1000
    rounds = []
    for _ in range(3):
        times = []
        for _ in range(ROUNDS):
            caller = somebody(chosen)
            began = thread_time()
            every.decide("document", "read", caller)
            times.append((thread_time() - began) * 1000)
        rounds.append((statistics.quantiles(times, n=100)[98], statistics.median(times)))
    p99, p50 = min(rounds)  # the round in which others on this machine were in the way the least
    print(
        f"\n{count} policies ({condition.__name__}): p50 {p50:.3f} ms, p99 {p99:.3f} ms (at most {limit_ms}); read once in {ready:.0f} ms"
    )
    assert p99 <= limit_ms


@pytest.mark.parametrize("condition", [usual, unfriendly])
def test_what_is_left_for_rows(condition: Callable[[random.Random, int], Any]) -> None:
    every, chosen = policies(1000, condition), random.Random(1)
    columns = {"labels": "d.metadata", "filename": "to_jsonb(d.name)", "size_bytes": "to_jsonb(1)"}
    first: list[float] = []
    again: list[float] = []
    for _ in range(50):
        caller = somebody(chosen)
        for times in (first, again):
            began = thread_time()
            every.residual("document", "read", caller, columns)
            times.append((thread_time() - began) * 1000)
    new, kept = statistics.median(first), statistics.median(again)
    print(f"\nresidual of 1000 policies ({condition.__name__}): {new:.2f} ms for a new caller, {kept:.3f} ms again")


async def test_a_thousand_policies_cost_a_listing_little(servers: Servers) -> None:
    """Each compares one label with a text of its own; 20,000 rows with metadata."""
    made = [
        read_policy(f"p{number}", "deny", "document", "read", 1, {"eq": [var("resource.labels.team"), f"team-{number}"]}, LIMITS)
        for number in range(1000)
    ]
    rest = PolicySet(made).residual("document", "read", somebody(random.Random(1)), {"labels": "d.metadata"})
    assert isinstance(rest.deny, str)
    connection = await servers.admin()
    try:
        await connection.execute(
            "create temp table d as select jsonb_build_object('team', 'team-' || n % 5000, 'level', 'secret', 'year', n) as metadata "
            "from generate_series(1, 20000) n"
        )
        bare = await timed(
            connection, "select count(*) from d where (d.metadata #> '{team}') is not null and $1::jsonb is not null", rest.values
        )
        full = await timed(connection, f"select count(*) from d where not {rest.deny}".replace(":policy_values", "$1"), rest.values)
    finally:
        await connection.close()
    print(f"\n20,000 rows: {bare:.1f} ms without policies, {full:.1f} ms with 1000 of them, {len(json.loads(rest.values))} constant(s)")
    assert full - bare <= 40


async def timed(connection: Any, statement: str, *given: Any) -> float:
    """Median milliseconds, after the database has settled on a plan."""
    prepared = await connection.prepare(statement)
    times = []
    for _ in range(25):
        began = perf_counter()
        await prepared.fetchval(*given)
        times.append((perf_counter() - began) * 1000)
    return statistics.median(times[10:])
