"""Tenants, and requests in their names: what the load generators of benchmarks and of the load test have in common."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import aiohttp

from nexusrag.billing.plans.provision import assign
from nexusrag.identity.api_keys.provision import create_key
from nexusrag.kernel.ids import new_id
from nexusrag.knowledge.corpora.provision import ensure_corpus
from tests.benchmarks.bench_speed import TEXT
from tests.benchmarks.load.client import Client
from tests.support.installation import Servers

DOCUMENTS = 10
DEADLINE_S = 3.0  # SLO_P95_RUN_MS: an answer that comes later is none
# No rate limits anybody, and the stage that asks for them stays.
NO_RATES = {
    f"RL_{of}_{what}_{unit}": "1000000" for of in ("KEY", "TENANT") for what in ("RUN", "READ", "MUTATION") for unit in ("RPS", "BURST")
}


@dataclass(frozen=True)
class Tenant:
    """A tenant with a corpus `c1` of DOCUMENTS documents, and the headers of its editors."""

    id: str
    editors: tuple[dict[str, str], ...]


@dataclass
class Seen:
    """What became of requests: seconds of good answers and of refusals, and how often which code came."""

    good: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def goodput(self) -> float:
        """Good answers a second."""
        return sum(took <= DEADLINE_S for took in self.good) / self.seconds


@contextmanager
def pinned(processor: int) -> Iterator[None]:
    """What is started within has this processor for itself."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


async def tenant(servers: Servers, env: dict[str, str], url: str, *, editors: int = 1, plan: str = "enterprise") -> Tenant:
    """A new one."""
    admin = await servers.admin()
    name = new_id("t").replace("_", "-")
    roles = ["admin", *["editor"] * editors]
    keys = [await create_key(admin, pepper=env["AUTH_KEY_PEPPER"], tenant=name, role=role, name="bench") for role in roles]
    await assign(admin, name, plan)
    await ensure_corpus(admin, name, "c1", "c1", "tenant")
    await admin.close()
    first, *others = [{"Authorization": f"Bearer {key['api_key']}"} for key in keys]
    async with aiohttp.ClientSession(headers=first) as session:
        for number in range(DOCUMENTS):
            body = {"corpus_id": "c1", "text": f"{number}. {TEXT}", "document_id": f"doc-{number}"}
            async with session.post(f"{url}/v1/documents/text", json=body) as answer:
                assert answer.status == 202, await answer.text()
    return Tenant(name, tuple(others))


def what(kind: str) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path and body of one `run`, `search`, `list` or `upload`."""
    match kind:
        case "run":
            return "POST", "/v1/run", {"session_id": new_id("s"), "corpus_id": "c1", "message": "What are the release gates?"}
        case "search":
            return "POST", "/v1/corpora/c1/search", {"query": "release gates"}
        case "upload":
            return "POST", "/v1/documents/text", {"corpus_id": "c1", "text": TEXT}
        case _:
            return "GET", "/v1/documents", None


async def ask(client: Client, headers: dict[str, str], kind: str, *seen: Seen) -> None:
    """Ask once, and note what became of it."""
    method, path, body = what(kind)
    began = perf_counter()
    try:
        status, text = await client.ask(method, path, headers, body)
        good = status < 300 and (kind != "run" or b"event: message.final" in text)
        code = "ok" if good else text.partition(b'"code":"')[2].partition(b'"')[0].decode() or str(status)
    except (OSError, EOFError, TimeoutError) as error:
        good, code = False, type(error).__name__
    took = perf_counter() - began
    for one in seen:
        one.codes[code] += 1
        (one.good if good else one.refused).append(took)


def ms(values: list[float], part: float = 0.5) -> float:
    """A quantile in milliseconds; nan of nothing."""
    return sorted(values)[int(len(values) * part)] * 1000 if values else float("nan")
