"""Any sequence of writes with keys, of lost answers, crashes and expiries does what a naive dictionary of answers does."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from nexusrag.infra.database import Database, Work
from tests.support.api import Api, Person, error_of
from tests.support.behind import rows

KEYS = st.sampled_from(["one", "two", "three"])
NAMES = st.sampled_from(["Amber", "Birch", "Cedar"])
PEOPLE = st.integers(0, 1)
FAULTS = st.sampled_from([None, None, None, "crash", "lost answer"])


class Faults:
    """Stands at the commit of the write that carries a key of one tenant: it fails there, before or after it is durable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._commit = database._commit
        self.tenant, self.key = "", ""
        self.fault: str | None = None
        database._commit = self._committing  # type: ignore[method-assign]

    async def _committing(self, work: Work) -> None:
        mine = self.fault and work.tenant_id == self.tenant
        stored = "select true from idempotency_keys where key = $1 and xmin = pg_current_xact_id()::xid"  # by this very transaction
        if not mine or not await work.raw.fetchval(stored, self.key):
            await self._commit(work)
            return
        fault, self.fault = self.fault, None
        if fault == "lost answer":
            await self._commit(work)
        raise ConnectionResetError

    def end(self) -> None:
        self._database._commit = self._commit  # type: ignore[method-assign]


class Writes(RuleBasedStateMachine):
    """The real API beside a model: what was stored for (person, key), and what the corpora are called."""

    api: Api
    loop: asyncio.AbstractEventLoop
    faults: Faults

    def wait(self, coming: Awaitable[Any]) -> Any:
        async def come() -> Any:
            return await coming

        return asyncio.run_coroutine_threadsafe(come(), self.loop).result(30)

    @initialize()
    def begin(self) -> None:
        first = self.wait(self.api.person("editor"))
        self.people: list[Person] = [first, self.wait(self.api.person("editor", first.tenant))]
        self.tenant = self.faults.tenant = first.tenant
        self.stored: dict[tuple[int, str], tuple[Any, bytes]] = {}
        self.names: dict[str, str] = {}
        self.effects = {"corpora.created": 0, "corpora.updated": 0}

    @rule(who=PEOPLE, key=KEYS, name=NAMES, fault=FAULTS)
    def makes(self, who: int, key: str, name: str, fault: str | None) -> None:
        self._write(who, key, fault, "POST", "/v1/corpora", {"name": name, "visibility": "tenant"})

    @rule(who=PEOPLE, key=KEYS, name=NAMES, which=st.integers(0, 3), fault=FAULTS)
    def renames(self, who: int, key: str, name: str, which: int, fault: str | None) -> None:
        if self.names:
            corpus = sorted(self.names)[which % len(self.names)]
            self._write(who, key, fault, "PATCH", f"/v1/corpora/{corpus}", {"name": name})

    @rule(who=PEOPLE, key=KEYS)
    def is_forgotten(self, who: int, key: str) -> None:
        statement = "update idempotency_keys set expires_at = now() where tenant_id = $1 and scope = $2 and key = $3"
        self.wait(rows(self.api, statement, self.tenant, self.people[who].user_id, key))
        self.stored.pop((who, key), None)

    @rule(who=PEOPLE, key=KEYS)
    def is_refused(self, who: int, key: str) -> None:
        """A request that cannot be carried out uses up no key."""
        answer = self.wait(self.people[who].post("/v1/corpora", json={"name": ""}, headers={"Idempotency-Key": key}))
        assert error_of(answer)[1] == (409 if (who, key) in self.stored else 422)

    @invariant()
    def each_effect_was_had_once(self) -> None:
        there = self.wait(rows(self.api, "select id, name from corpora where tenant_id = $1", self.tenant))
        assert {row["id"]: row["name"] for row in there} == self.names
        counted = self.wait(
            rows(
                self.api, "select event_type, count(*) as n from audit_events where tenant_id = $1 and event_type = any ($2) group by 1",
                self.tenant, list(self.effects),
            )
        )  # fmt: skip
        assert {row["event_type"]: row["n"] for row in counted} == {name: n for name, n in self.effects.items() if n}

    def _write(self, who: int, key: str, fault: str | None, method: str, path: str, body: dict[str, str]) -> None:
        known = self.stored.get((who, key))
        self.faults.key, self.faults.fault = key, fault if known is None else None
        answer: httpx.Response = self.wait(
            self.people[who].client.request(method, path, json=body, headers={"Idempotency-Key": key})
        )  # fmt: skip
        if known is not None:
            if known[0] == (method, path, body):
                assert (answer.content, answer.headers["Idempotency-Replayed"]) == (known[1], "true")
            else:
                assert error_of(answer) == ("IDEMPOTENCY_KEY_CONFLICT", 409)
        elif fault == "crash":
            assert error_of(answer) == ("SERVICE_UNAVAILABLE", 503)
        elif fault == "lost answer":
            assert error_of(answer) == ("SERVICE_UNAVAILABLE", 503)
            again: httpx.Response = self.wait(
                self.people[who].client.request(method, path, json=body, headers={"Idempotency-Key": key})
            )  # fmt: skip
            assert again.headers["Idempotency-Replayed"] == "true"
            self._done(who, key, (method, path, body), again)
        else:
            assert "Idempotency-Replayed" not in answer.headers
            self._done(who, key, (method, path, body), answer)

    def _done(self, who: int, key: str, sent: Any, answer: httpx.Response) -> None:
        method, _, body = sent
        assert answer.status_code == (201 if method == "POST" else 200), answer.text
        self.names[answer.json()["data"]["id"]] = body["name"]
        self.effects["corpora.created" if method == "POST" else "corpora.updated"] += 1
        self.stored[who, key] = (sent, answer.content)


@pytest.mark.slow
async def test_writes_with_keys_are_what_a_dictionary_of_answers_makes_of_them(api: Api) -> None:
    faults = Faults(api.resources.get(Database))
    machine = type("Machine", (Writes,), {"api": api, "loop": asyncio.get_running_loop(), "faults": faults})
    limits = settings(
        max_examples=15,
        stateful_step_count=20,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        await asyncio.to_thread(run_state_machine_as_test, machine, settings=limits)
    finally:
        faults.end()
