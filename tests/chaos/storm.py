"""A storm: an installation of several processes does its work while they, Redis and PostgreSQL die and come back, at moments of chance.

Afterwards everything must be as if nothing had happened: what was acknowledged stands once, and the bill is right.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from nexusrag.identity.api_keys.provision import create_key
from nexusrag.kernel.ids import new_id
from nexusrag.providers.storage.directory import DirectoryStorage
from tests.chaos.census import invoiced, unbalanced, under_way, uninvoiced
from tests.chaos.harness import ENV
from tests.chaos.provider import InvoicingProvider, invoicing_provider, settings_for
from tests.chaos.traffic import PATIENCE_S, Account, Client, prepared
from tests.support.installation import Servers
from tests.support.processes import Process, free_port, process, until

APIS, WORKERS, CLIENTS = 2, 2, 3
CALM_S = (0.4, 1.4)  # between one fault and the next
SETTLED_S = 60.0
FROZEN_S = (0.5, 13)  # in turn; a lease lasts 10
CAP_STEP = 25  # units that the capped tenant is given more, whenever it has used what it had
BUDGET_USD = Decimal("0.005")  # as much as its clients' runs may cost together
# Nobody is to give a document up because its workers died, and departed clients are to be noticed soon.
STORM_ENV = {"INGEST_MAX_RETRIES": "20", "LLM_MAX_OUTPUT_TOKENS": "64", "RUN_DISCONNECT_GRACE_S": "0.3", "LLM_TOTAL_TIMEOUT_S": "5"}
BUSY = {"run": 8, "text": 4, "file": 4, "corpus": 2, "deletion": 2, "departure": 2, "look": 4}
CAPPED = {"run": 1, "corpus": 1, "look": 8}
SPENDING = {"run": 1}

_UNFORESEEN = re.compile("request.failed|run.failed|.*Exception in ASGI application")  # in the logs
_UNENDED = (
    "select r.id from runs r where 1 <> (select count(*) from run_events e where e.run_id = r.id and e.payload like '%event: done%') "
    "or (select e.payload from run_events e where e.run_id = r.id order by e.seq desc limit 1) not like '%event: done%'"
)
_HALF_DONE = (
    "select d.filename || ' ' || d.status || ' ' || coalesce(d.failure_reason, '') || ' of ' || coalesce(d.num_chunks, 0) as what "
    "from documents d where d.status <> 'succeeded' "
    "or d.num_chunks <> (select count(*) from chunks c where c.version_id = d.live_version_id) "
    "or 1 <> (select count(*) from document_versions v where v.tenant_id = d.tenant_id and v.document_id = d.id)"
)
_MISCHARGED = (
    "select 'not charged: ' || d.filename as what from documents d where not exists "
    "(select 1 from ledger l where l.tenant_id = d.tenant_id and l.subject = 'ingest:' || d.last_job_id) union all "
    "select 'charged for nothing: ' || l.subject from ledger l where l.subject like 'ingest:%' and not exists "
    "(select 1 from jobs j where 'ingest:' || j.id = l.subject and j.state = 'succeeded')"
)
_MADE = (
    "select filename as key, id from documents where tenant_id = $1 union all select name, id from corpora where tenant_id = $1 "
    "union all select substring(question from 'run-[0-9]+'), id from runs where tenant_id = $1 and question like '%run-%'"
)
_MONTH = (
    "select coalesce(sum(plain_units), 0)::bigint as plain, coalesce(sum(usd + held_usd), 0) as usd, "
    "coalesce(sum(plain_units + direct_units + units + held_units), 0)::bigint as units from usage_periods "
    "where tenant_id = $1 and period = 'month'"
)


@dataclass
class Report:
    """`overrun`: units beyond the hard cap; `allowed`: those that Redis had not told PostgreSQL when it was lost; `refused`: for want of
    units, of money."""

    seed: int
    took_s: float
    faults: list[str]
    struck: Counter[str]
    answers: Counter[int]
    runs: Counter[str]
    overrun: int
    allowed: int
    over_budget: Decimal
    refused: tuple[int, int]
    settled_s: float

    def lines(self) -> list[str]:
        return [
            f"storm of seed {self.seed}: {self.struck.total()} faults in {self.took_s:.0f} s, whole again after {self.settled_s:.0f} s; "
            f"lost, doubled or wrong: {len(self.faults)}",
            f"units beyond the hard cap: {self.overrun} (Redis took up to {self.allowed} along); dollars beyond the budget: "
            f"{self.over_budget:f}; refused by the cap and by the budget: {self.refused}",
            f"runs: {dict(self.runs.most_common())}; answers: {dict(sorted(self.answers.items()))}",
            *(f"  {number:4} {name}" for name, number in self.struck.most_common()),
            *self.faults,
        ]


class Storm:
    """An installation, its clients, and what befalls it."""

    def __init__(self, servers: Servers, provider: InvoicingProvider, seed: int) -> None:
        self._servers = servers
        self._provider = provider
        self._seed = seed
        self._dice = random.Random(seed)
        self._env = {**ENV, **settings_for(provider), **STORM_ENV}
        self._redis = Redis.from_url(servers.settings.stores.redis_url.get_secret_value(), decode_responses=True)
        self._apis: dict[str, Process] = {}  # by address, those that answer
        self._workers: list[Process] = []
        self._accounts: dict[str, Account] = {}
        self._closing = asyncio.Event()
        self._struck: Counter[str] = Counter()
        self._said: Counter[str] = Counter()  # errors that processes logged
        self._thawing: list[asyncio.Task[None]] = []
        self._cap = CAP_STEP
        self._overrun = 0
        self._allowed = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The processes of the installation, each started again whenever it ends."""
        async with asyncio.TaskGroup() as group:
            for role in ("api",) * APIS + ("worker",) * WORKERS:
                group.create_task(self._keep(role))
            try:
                await until(self._all_there, 60)
                yield
            finally:
                self._closing.set()
        await self._redis.aclose()

    async def rage(self, faults: int) -> Report:
        """Clients at work while so many faults follow one another, each kind once before any comes again; then what is left of it all."""
        for name in ("first", "second", "capped", "budget"):
            self._accounts[name] = await self._account(name)
        began, over = monotonic(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for name, weights in (("first", BUSY), ("second", BUSY), ("capped", CAPPED), ("budget", SPENDING)):
                for number in range(CLIENTS):
                    client = Client(self._accounts[name], lambda: list(self._apis), f"{self._seed}-{name}-{number}", weights)
                    group.create_task(client.live(over))
            kinds = self._kinds()
            for number in range(faults):
                if number % len(kinds) == 0:
                    *others, worst = kinds
                    order = [*self._dice.sample(others, len(others)), worst]
                await until(self._any_there, PATIENCE_S, 0.1)  # on a busy machine they need longer to start than faults to come
                await asyncio.sleep(self._dice.uniform(*CALM_S))
                name = order[number % len(kinds)]
                self._struck[name] += 1
                await kinds[name]()
                await self._raise_cap()
            await asyncio.gather(*self._thawing)
            await asyncio.sleep(CALM_S[1])
            over.set()
        struck_s, stuck = monotonic() - began, await self._settle()
        settled_s = monotonic() - began - struck_s
        stuck += [fault for url in list(self._apis) for fault in await self._still_works(url)]
        stuck += await self._settle()  # what was asked just now
        return await self._judged(struck_s, settled_s, stuck)

    async def _keep(self, role: str) -> None:
        while not self._closing.is_set():
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            with process(self._servers, role, API_PORT=str(port), **self._env) as started:
                try:
                    if role == "worker":
                        self._workers.append(started)
                    while started.code is None and not self._closing.is_set():
                        if role == "api" and url not in self._apis and await _answers(url):
                            self._apis[url] = started
                        await asyncio.sleep(0.05)
                finally:
                    self._said.update(_errors(started.output()))
                    self._apis.pop(url, None)
                    if started in self._workers:
                        self._workers.remove(started)

    async def _all_there(self) -> bool:
        return len(self._apis) == APIS and len(self._workers) == WORKERS

    async def _any_there(self) -> bool:
        return bool(self._apis)

    async def _account(self, name: str) -> Account:
        tenant = new_id("t").replace("_", "-")
        pepper = self._servers.settings.auth.auth_key_pepper.get_secret_value()
        async with self._admin() as admin:
            made = await create_key(admin, pepper=pepper, tenant=tenant, role="admin", name="Chaos")
            if name == "capped":
                await admin.execute("insert into quota_limits (tenant_id, monthly_requests_limit) values ($1, $2)", tenant, self._cap)
        account = Account(tenant, made["api_key"], f"handbook-{name}")
        headers = {"Authorization": f"Bearer {account.key}"}
        async with httpx.AsyncClient(base_url=next(iter(self._apis)), headers=headers, timeout=30, verify=False) as client:
            await prepared(client, account)
            if name == "budget":
                budget = {"monthly_budget_usd": float(BUDGET_USD), "enforce_hard_cap": True, "hard_cap_mode": "block"}
                answer = await client.patch("/v1/admin/costs/budget", json=budget)
                assert answer.status_code == 200, answer.text
        return account

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """A connection of its own each time: none outlives a fault."""
        admin = await self._servers.admin()
        try:
            yield admin
        finally:
            await admin.close()

    def _kinds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Faults by name, each with what it needs to be over; processes come back by themselves."""
        return {
            "an API killed": lambda: self._kill(list(self._apis.values())),
            "a worker killed": lambda: self._kill(self._workers),
            "an API or worker frozen": self._freeze,
            "PostgreSQL restarted fast": lambda: self._restart("postgres", signal.SIGINT),
            "PostgreSQL restarted at once": lambda: self._restart("postgres", signal.SIGQUIT),
            "a server process of PostgreSQL killed": self._kill_backend,
            "connections cut": self._cut,
            "Redis flushed": self._flush,
            "Redis killed": self._kill_redis,
            "everything killed": self._kill_everything,
        }

    async def _kill(self, processes: list[Process]) -> None:
        if processes:
            await asyncio.to_thread(self._dice.choice(processes).kill)

    async def _freeze(self) -> None:
        """Every other time for so long that others take over what it holds. The storm goes on meanwhile."""
        frozen = self._dice.choice([*self._apis.values(), *self._workers])
        lasts_s = FROZEN_S[len(self._thawing) % len(FROZEN_S)]
        frozen.freeze()

        async def thaw() -> None:
            await asyncio.sleep(lasts_s)
            if frozen.code is None:
                with contextlib.suppress(asyncpg.PostgresError, RedisError, OSError):
                    self._allowed += await self._untold()  # whoever wakes up takes Redis for lost
                frozen.thaw()

        self._thawing.append(asyncio.create_task(thaw()))

    async def _restart(self, server: str, number: signal.Signals) -> None:
        await asyncio.to_thread(self._servers.restart, server, number, self._dice.choice((0, 0, 0.3, 1.2)))

    async def _kill_redis(self) -> None:
        self._allowed += await self._untold()
        await self._restart("redis", signal.SIGKILL)

    async def _kill_everything(self) -> None:
        self._allowed += await self._untold()
        for one in (*self._apis.values(), *self._workers):
            one.kill()
        await asyncio.gather(self._restart("postgres", signal.SIGQUIT), self._restart("redis", signal.SIGKILL))

    async def _kill_backend(self) -> None:
        """PostgreSQL then ends all others, too, and recovers."""
        async with self._admin() as admin:
            pids = await admin.fetch("select pid from pg_stat_activity where application_name = 'nexusrag' order by pid")
        if pids:
            os.kill(self._dice.choice(pids)["pid"], signal.SIGKILL)
            await asyncio.sleep(0.1)
        await until(self._database_answers, 20)

    async def _database_answers(self) -> bool:
        try:
            async with self._admin() as admin:
                return bool(await admin.fetchval("select true"))
        except (asyncpg.PostgresError, OSError):
            return False

    async def _cut(self) -> None:
        self._allowed += await self._untold()
        async with self._admin() as admin:
            await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'nexusrag'")
        for kind in ("normal", "pubsub"):
            await self._redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")  # type: ignore[no-untyped-call]

    async def _flush(self) -> None:
        self._allowed += await self._untold(and_flush=True)

    async def _untold(self, *, and_flush: bool = False) -> int:
        """Units of the capped tenant's plain requests that PostgreSQL has not been told yet, and what its clients do meanwhile."""
        tenant = self._accounts["capped"].tenant
        async with self._admin() as admin:
            told = (await self._month(admin, "capped"))["plain"]
        (name, *_) = [name async for name in self._redis.scan_iter(f"nexusrag:rl:units:{tenant}:??????")] or [""]
        async with self._redis.pipeline() as pipeline:
            pipeline.hget(name, "p")
            if and_flush:
                pipeline.flushall()
            counted, *_ = await pipeline.execute()
        return max(0, int(counted or 0) - told) + CLIENTS

    async def _raise_cap(self) -> None:
        """So that there is always a cap to overrun."""
        async with self._admin() as admin:
            shown = await self._overrun_now(admin)
        if shown < self._cap - CAP_STEP // 4:
            return
        self._cap = shown + CAP_STEP
        async with self._operator() as operator:

            async def raised() -> bool:
                path, body = f"/v1/admin/quotas/{self._accounts['capped'].tenant}", {"monthly_requests_limit": self._cap}
                try:
                    return (await operator.patch(f"{next(iter(self._apis), '')}{path}", json=body)).status_code == 200
                except httpx.HTTPError:
                    return False

            await until(raised, 30, 0.1)

    async def _overrun_now(self, admin: "asyncpg.Connection[Any]") -> int:
        """Look how far beyond its cap the tenant has come, by its own count and by ours, which this returns."""
        shown = int((await self._month(admin, "capped"))["units"])
        self._overrun = max(self._overrun, shown - self._cap, self._accounts["capped"].units - self._cap)
        return shown

    def _operator(self) -> httpx.AsyncClient:
        """An admin of the first tenant, which is the home tenant."""
        return httpx.AsyncClient(headers={"Authorization": f"Bearer {self._accounts['first'].key}"}, timeout=30, verify=False)

    async def _settle(self) -> list[str]:
        """Wait until nothing is under way any more; what still is when patience has run out."""
        end = monotonic() + SETTLED_S
        while True:
            async with self._admin() as admin:
                left = await under_way(admin) + await uninvoiced(admin, self._provider)
            left += [f"untold {name}" for name in await self._redis.smembers("nexusrag:rl:dirty")]
            if not await self._all_there():
                left.append(f"processes: {len(self._apis)} APIs, {len(self._workers)} workers")
            left = left or await self._slots_held()
            if not left or monotonic() > end:
                return [f"still under way after {SETTLED_S:.0f} s: {one}" for one in left]
            await asyncio.sleep(0.25)

    async def _still_works(self, url: str) -> list[str]:
        """What keeps this API from answering a question as if nothing had happened."""
        async with self._operator() as client:
            body = {
                "session_id": new_id("s"),
                "corpus_id": self._accounts["first"].corpus,
                "message": "What does the keeper tell of the oil?",
            }
            answer = await client.post(f"{url}/v1/run", json=body)
        return [] if answer.text.count("event: done\n") == 1 else [f"{url} answers {answer.status_code} {answer.text[:500]}"]

    async def _slots_held(self) -> list[str]:
        """Places among the model calls that those who died have not given back."""
        async with self._operator() as client:
            slots = (await client.get(f"{next(iter(self._apis))}/v1/admin/slots")).json()["data"]
        return [f"{slots['in_use']} model calls"] if slots["in_use"] else []

    async def _judged(self, struck_s: float, settled_s: float, faults: list[str]) -> Report:
        async with self._admin() as admin:
            faults += await invoiced(admin, self._provider)
            faults += [f"counters and ledger differ: {line}" for line in await unbalanced(admin)]
            faults += [f"not all of its chunks once: {row['what']}" for row in await admin.fetch(_HALF_DONE)]
            faults += [row["what"] for row in await admin.fetch(_MISCHARGED)]
            faults += [f"a journal without an end: {row['id']}" for row in await admin.fetch(_UNENDED)]
            runs = Counter(row["what"] for row in await admin.fetch("select coalesce(error_code, state) as what from runs"))
            for living in (*self._apis.values(), *self._workers):
                self._said.update(_errors(living.output()))
            faults += [f"logged: {number} times {what}" for what, number in self._said.items() if _UNFORESEEN.match(what)]
            for account in self._accounts.values():
                faults += account.faults
                faults += _misremembered(account, await admin.fetch(_MADE, account.tenant))
            faults += await self._misfiled(admin)
            shown = await self._overrun_now(admin)
            over_budget = (await self._month(admin, "budget"))["usd"] - BUDGET_USD
        if self._overrun > self._allowed:
            faults.append(f"{self._overrun} units beyond the hard cap, of which Redis took {self._allowed} along")
        if (unseen := self._accounts["capped"].units - shown) > self._allowed:
            faults.append(f"{unseen} units that were answered are not shown, of which Redis took {self._allowed} along")
        if over_budget > 0:
            faults.append(f"{over_budget} dollars beyond the budget")
        answers = sum((account.answers for account in self._accounts.values()), Counter[int]())
        refused = self._accounts["capped"].refused, self._accounts["budget"].refused
        money = max(over_budget, Decimal(0))
        return Report(self._seed, struck_s, faults, self._struck, answers, runs, self._overrun, self._allowed, money, refused, settled_s)

    async def _month(self, admin: "asyncpg.Connection[Any]", name: str) -> Any:
        return await admin.fetchrow(_MONTH, self._accounts[name].tenant)

    async def _misfiled(self, admin: "asyncpg.Connection[Any]") -> list[str]:
        """Files that nothing names or will remove, and names without a file."""
        storage = DirectoryStorage(self._servers.home / "blobs")
        named = await admin.fetch("select tenant_id || '/' || blob_id as key from documents")
        going = await admin.fetch(
            "select tenant_id || '/' || (args->>'blob_id') as key from jobs where kind like 'blob.%' and state = 'queued'"
        )
        paths, leaving = ({storage._path(row["key"]): row["key"] for row in rows} for rows in (named, going))
        there = set(Path(self._servers.home / "blobs/objects").glob("*/*"))
        faults = [f"no file: {paths[path]}" for path in paths.keys() - there]
        return faults + [f"nobody's file: {path}" for path in there - paths.keys() - leaving.keys()]


def _misremembered(account: Account, rows: list[Any]) -> list[str]:
    """Where what stands is not what clients were told."""
    faults, there = [], Counter(row["key"] for row in rows)
    ids = {row["key"]: row["id"] for row in rows}
    for key, made in account.made.items():
        if key in account.deleted:
            if there[key]:
                faults.append(f"{account.tenant} {key} was deleted, and is there {there[key]} times")
        elif (there[key], ids.get(key)) != (1, made):
            faults.append(f"{account.tenant} {key} was acknowledged as {made}, and is there {there[key]} times ({ids.get(key)})")
    faults += [f"{account.tenant} {key} is there {times} times" for key, times in there.items() if times > 1]
    return faults


def _errors(output: str) -> list[str]:
    """What a process logged as an error, by event and kind of error."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [f"{line['event']} {line.get('template', '').strip()} {line.get('error', '')}" for line in lines if line.get("level") == "error"]


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(verify=False) as client:
            return (await client.get(f"{url}/v1/health")).status_code == 200
    except httpx.TransportError:
        return False


@asynccontextmanager
async def storm(servers: Servers, seed: int) -> AsyncIterator[Storm]:
    """Everything that it starts ends with it."""
    dice = random.Random(seed)
    async with invoicing_provider(lambda: dice.choice((*range(4, 60), *range(-8, 0))), pause_s=0.015) as provider:
        held = Storm(servers, provider, seed)
        async with held.running():
            yield held
