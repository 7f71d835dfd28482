"""The writes that are killed: what each needs beforehand, and how it is sent, the same every time."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.api import Person

Send = Callable[[httpx.AsyncClient, dict[str, str]], Awaitable[httpx.Response]]
TEXT = "\n\n".join(f"Paragraph {number} tells of whale oil, of keeper {number} and of the Tuesday ferry. " * 8 for number in range(4))


@dataclass(frozen=True)
class Write:
    """`prepare` makes what the write acts on, which is ready once its jobs are done, and returns how to send it.

    `asks`: it asks a model. `secret`: its answer holds one, which is not told twice.
    """

    name: str
    prepare: Callable[[Person], Awaitable[Send]]
    asks: bool = False
    secret: bool = False


def _sent(method: str, path: str, **body: Any) -> Send:
    async def send(client: httpx.AsyncClient, headers: dict[str, str]) -> httpx.Response:
        return await client.request(method, path, headers=headers, json=body or None)

    return send


async def _make_corpus(person: Person) -> Send:
    return _sent("POST", "/v1/corpora", name="Handbook", id="handbook")


async def _change_corpus(person: Person) -> Send:
    return _sent("PATCH", f"/v1/corpora/{await person.corpus()}", name="Another name")


async def _delete_corpus(person: Person) -> Send:
    corpus = await person.corpus()
    await person.text(corpus, "Of a corpus that goes.", wait=False)
    return _sent("DELETE", f"/v1/corpora/{corpus}")


async def _send_text(person: Person) -> Send:
    return _sent("POST", "/v1/documents/text", corpus_id=await person.corpus(), text=TEXT)


async def _replace_text(person: Person) -> Send:
    corpus = await person.corpus()
    document = await person.text(corpus, "The former words.", document_id="note", wait=False)
    return _sent("POST", "/v1/documents/text", corpus_id=corpus, text=TEXT, document_id=document, overwrite=True)


async def _upload(person: Person) -> Send:
    corpus = await person.corpus()

    async def send(client: httpx.AsyncClient, headers: dict[str, str]) -> httpx.Response:
        files = {"file": ("note.md", b"# A note\n\nOf the lamp, the oil and the ferry.\n" * 40)}
        return await client.post("/v1/documents", data={"corpus_id": corpus}, files=files, headers=headers)

    return send


async def _reindex(person: Person) -> Send:
    return _sent("POST", f"/v1/documents/{await person.text(await person.corpus(), TEXT, wait=False)}/reindex", chunk_size_chars=400)


async def _delete_document(person: Person) -> Send:
    return _sent("DELETE", f"/v1/documents/{await person.text(await person.corpus(), TEXT, wait=False)}")


async def _make_key(person: Person) -> Send:
    return _sent("POST", "/v1/self-serve/api-keys", role="reader", name="Robot")


async def _grant(person: Person) -> Send:
    document = await person.text(await person.corpus(), "To be shared.", wait=False)
    return _sent(
        "POST", f"/v1/admin/authz/documents/{document}/permissions", principal_type="role", principal_id="reader", permission="read"
    )


async def _set_budget(person: Person) -> Send:
    return _sent("PATCH", f"/v1/admin/costs/budget?tenant_id={person.tenant}", monthly_budget_usd=25, warn_ratio=0.5)


async def _run(person: Person) -> Send:
    corpus = await person.corpus()
    await person.text(corpus, TEXT, wait=False)
    return _sent("POST", "/v1/run", session_id=f"s-{person.tenant}", corpus_id=corpus, message="What does the keeper tell of the oil?")


RUN = Write("a run", _run, asks=True)
WRITES = (
    Write("a corpus", _make_corpus),
    Write("a corpus changed", _change_corpus),
    Write("a corpus deleted", _delete_corpus),
    Write("a text", _send_text),
    Write("a text replaced", _replace_text),
    Write("a file", _upload),
    Write("a document indexed anew", _reindex),
    Write("a document deleted", _delete_document),
    Write("a key", _make_key, secret=True),
    Write("a grant", _grant),
    RUN,
)
# What a worker does of these, once they are accepted.
JOBS = tuple(write for write in WRITES if write.name in ("a text", "a text replaced", "a document indexed anew", "a corpus deleted"))
