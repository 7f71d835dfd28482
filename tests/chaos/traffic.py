"""The clients of a storm: they ask whichever API lives until they are answered, or leave in the middle, and remember what they were told.

What each write makes is named after its key, so that anybody can count afterwards how often it was made.
"""

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.support.api import parse_events
from tests.support.processes import until

PATIENCE_S = 120.0  # in which everything that is asked again must have been answered
TEXT = "\n\n".join(f"Paragraph {number} tells of whale oil, of keeper {number} and of the Tuesday ferry. " * 4 for number in range(3))


@dataclass
class Account:
    """A tenant, and what its clients were told."""

    tenant: str
    key: str
    corpus: str
    made: dict[str, str] = field(default_factory=dict)  # what was acknowledged: its key, and its id
    deleted: set[str] = field(default_factory=set)
    units: int = 0  # of requests that were answered well, and not from the store
    refused: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def new_key(self, kind: str) -> str:
        return f"{kind}-{next(self.numbers)}"


class Story:
    """The events of a run as one reader has them, over however many connections."""

    def __init__(self) -> None:
        self.run = ""
        self.last = ""
        self.seen: list[str] = []
        self.pieces = 0
        self.withheld = False  # a document that it was answered from is gone
        self._text = ""

    @property
    def done(self) -> bool:
        return self.withheld or self.seen[-1:] == ["done"]

    def begin(self) -> None:
        """A new connection: what the former one left unfinished is sent again."""
        self._text = ""

    def take(self, text: str) -> str | None:
        """What is wrong with the next piece of the stream, if anything is."""
        self.pieces += 1
        *whole, self._text = (self._text + text).split("\n\n")
        for event in parse_events("".join(f"{block}\n\n" for block in whole)):
            if event.type == "resume.unsupported":
                self.withheld = True
                return None
            if self.done:
                return f"{event.type} after the end of {self.run}"
            run, _, number = (event.id or "none.0").rpartition(".")
            if self.run and (run != self.run or int(number) <= int(self.last.rpartition(".")[2])):
                return f"event {event.id} after {self.last}"
            self.run, self.last = run, event.id
            self.seen.append(event.type)
        return None


class Client:
    """One after another, whatever its dice say. `urls`: of the APIs that live at present."""

    def __init__(self, account: Account, urls: Callable[[], list[str]], seed: str, weights: dict[str, int]) -> None:
        self._account = account
        self._urls = urls
        self._dice = random.Random(seed)
        self._weights = weights
        # Certificates, which nobody shows here, take longer to load than all the rest.
        self._http = httpx.AsyncClient(headers={"Authorization": f"Bearer {account.key}"}, timeout=30, verify=False)
        self._session = seed
        self._documents: list[str] = []  # keys of those that this client has made

    async def live(self, over: asyncio.Event) -> None:
        """Until it is `over` and the last answer is there."""
        acts = {
            "run": self._run, "text": self._text, "file": self._file, "corpus": self._corpus, "deletion": self._delete,
            "departure": self._depart, "look": self._look,
        }  # fmt: skip
        async with self._http:
            while not over.is_set():
                (name,) = self._dice.choices(list(self._weights), list(self._weights.values()))
                async with asyncio.timeout(PATIENCE_S):
                    await acts[name]()

    async def _once(self, method: str, path: str, key: str | None = None, units: int = 1, **options: object) -> httpx.Response | None:
        """An answer of any API; None where there is none, since the connection broke or no API lives."""
        try:
            answer = await self._http.request(method, self._url(path), headers=_headers(key), **options)  # type: ignore[arg-type]
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            return None
        return await self._noted(answer, units)

    async def _answered(self, method: str, path: str, key: str, **options: object) -> httpx.Response:
        """The same asked again until there is an answer that stands."""
        while (answer := await self._once(method, path, key, **options)) is None or _passing(answer):
            await asyncio.sleep(0.05)
        return answer

    async def _noted(self, answer: httpx.Response, units: int) -> httpx.Response:
        account = self._account
        account.answers[answer.status_code] += 1
        if answer.is_success:
            account.units += 0 if "Idempotency-Replayed" in answer.headers else units
        elif answer.status_code == 402:
            account.refused += 1
            await asyncio.sleep(0.1)
        elif not _passing(answer):
            await answer.aread()
            account.faults.append(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:500]}")
        return answer

    def _url(self, path: str) -> str:
        urls = self._urls()
        if not urls:
            raise httpx.ConnectError("no API lives")
        return self._dice.choice(urls) + path

    async def _write(self, key: str, path: str, of: str, **options: object) -> None:
        """A write that is repeated until it is acknowledged, and now and then once more."""
        answer = await self._answered("POST", path, key, **options)
        if not answer.is_success:
            return
        self._account.made[key] = answer.json()["data"][of]
        if of == "document_id":
            self._documents.append(key)
        if self._dice.random() < 0.3:
            again = await self._answered("POST", path, key, **options)
            if again.content != answer.content or "Idempotency-Replayed" not in again.headers:
                self._account.faults.append(f"{key} was {answer.text[:300]}, then {again.status_code} {again.text[:300]}")

    async def _text(self) -> None:
        key = self._account.new_key("text")
        body = {"corpus_id": self._account.corpus, "text": f"{key}\n\n{TEXT}", "filename": key}
        await self._write(key, "/v1/documents/text", "document_id", json=body)

    async def _file(self) -> None:
        key = self._account.new_key("file")
        file = (key, f"# {key}\n\n{TEXT}".encode(), "text/markdown")
        await self._write(key, "/v1/documents", "document_id", data={"corpus_id": self._account.corpus}, files={"file": file})

    async def _corpus(self) -> None:
        key = self._account.new_key("corpus")
        await self._write(key, "/v1/corpora", "id", json={"name": key})

    async def _delete(self) -> None:
        account = self._account
        if self._documents:
            key = self._documents.pop(self._dice.randrange(len(self._documents)))
            answer = await self._answered("DELETE", f"/v1/documents/{account.made[key]}", account.new_key("deletion"))
            if answer.is_success:
                account.deleted.add(key)

    async def _depart(self) -> None:
        """A write whose client leaves before the answer, and never asks again."""
        key = self._account.new_key("file")
        file = (key, f"# {key}\n\n{TEXT}".encode(), "text/markdown")
        try:
            async with asyncio.timeout(self._dice.uniform(0, 0.05)):
                await self._once("POST", "/v1/documents", key, data={"corpus_id": self._account.corpus}, files={"file": file})
        except TimeoutError:
            pass

    async def _look(self) -> None:
        await self._once("GET", f"/v1/corpora/{self._account.corpus}")

    async def _run(self) -> None:
        """A run that is read to its end, cut off (and sometimes come back to, anywhere), or cancelled."""
        key, story = self._account.new_key("run"), Story()
        how = self._dice.choice(("read", "read", "cut", "cut and read on", "cancel"))
        after = self._dice.randint(1, 12)  # pieces
        if self._dice.random() < 0.25:
            self._session = f"{self._account.tenant}-{key}"
        body = {"session_id": self._session, "corpus_id": self._account.corpus, "message": f"What does it tell of {key}?"}
        while not story.done:
            stay = not how.startswith("cut") or story.pieces >= after
            left = await self._read(story, key, body, None if stay else after, cancel=how == "cancel")
            if left or (how == "cut" and story.pieces >= after):
                break
        if story.run:
            self._account.made[key] = story.run
        if story.withheld and not self._account.deleted:
            self._account.faults.append(f"{story.run} cannot be gone on with after {story.last}")

    async def _read(self, story: Story, key: str, body: dict[str, str], most: int | None, *, cancel: bool) -> bool:
        """One connection: the run is asked for, or where it is known, gone on with. True: nothing more will come."""
        story.begin()
        try:
            if story.run:
                request = self._http.build_request("GET", self._url(f"/v1/runs/{story.run}/events"), headers={"Last-Event-ID": story.last})
            else:
                request = self._http.build_request("POST", self._url("/v1/run"), headers=_headers(key), json=body)
            answer = await self._http.send(request, stream=True)
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            return False
        try:
            await self._noted(answer, 0 if story.run else 3)
            if not answer.is_success:
                await answer.aread()
                await asyncio.sleep(0.05)
                return not _passing(answer)
            async for text in answer.aiter_text():
                fault = story.take(text)
                if fault is not None:
                    self._account.faults.append(fault)
                    return True
                if cancel and story.run:
                    cancel = await self._once("POST", f"/v1/runs/{story.run}/cancel", units=0) is None
                if most is not None and story.pieces >= most:
                    break
        except httpx.TransportError:
            pass
        finally:
            await answer.aclose()
        return False


def _headers(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key} if key else {}


def _passing(answer: httpx.Response) -> bool:
    """Whether the same may be answered otherwise in a moment: the installation is not whole, or busy with this very request."""
    if answer.status_code == 409:
        return json.loads(answer.content)["error"]["code"] in ("IDEMPOTENCY_IN_PROGRESS", "INGEST_IN_PROGRESS")
    return answer.status_code == 503


async def prepared(client: httpx.AsyncClient, account: Account) -> None:
    """The account has a corpus with a document that can be found."""
    answer = await client.post("/v1/corpora", json={"name": "Handbook", "id": account.corpus})
    assert answer.status_code == 201, answer.text
    answer = await client.post("/v1/documents/text", json={"corpus_id": account.corpus, "text": TEXT, "filename": "handbook"})
    assert answer.status_code == 202, answer.text
    path = answer.json()["data"]["status_url"]

    async def found() -> bool:
        return bool((await client.get(path)).json()["data"]["status"] == "succeeded")

    await until(found)
