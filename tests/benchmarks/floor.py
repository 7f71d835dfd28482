"""The floor that speed is compared with: FastAPI, the same LangGraph, bare asyncpg and Redis, the same events, and nothing else."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

import asyncpg
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel
from redis.asyncio import Redis

from nexusrag.infra.urls import connect_arguments
from nexusrag.kernel.ids import new_id
from nexusrag.web.sse import frame

STATEMENTS = 10
DELTAS = 20


class State(TypedDict, total=False):
    answer: str


class Question(BaseModel):
    session_id: str
    corpus_id: str
    message: str


class Row(BaseModel):
    id: str
    filename: str
    status: str
    content_type: str
    size_bytes: int


async def node(state: State) -> State:
    return {"answer": "x"}


def graph() -> Any:
    built = StateGraph(State)
    previous = START
    for name in ("history", "question", "retrieve", "generate", "verify", "remember"):
        built.add_node(name, node)
        built.add_edge(previous, name)
        previous = name
    built.add_edge(previous, END)
    return built.compile()


GRAPH = graph()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async def as_app(connection: "asyncpg.Connection[Any]") -> None:
        await connection.execute("set role nexusrag_app")

    app.state.pool = await asyncpg.create_pool(**connect_arguments(os.environ["DATABASE_URL"]), min_size=10, max_size=20, setup=as_app)
    app.state.redis = Redis.from_url(os.environ["REDIS_URL"])
    yield
    await app.state.pool.close()
    await app.state.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/run")
async def run(question: Question) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        run_id, seq = new_id("run"), 0

        def event(kind: str, data: dict[str, Any]) -> str:
            nonlocal seq
            seq += 1
            payload = {"type": kind, "request_id": run_id, "session_id": question.session_id, "seq": seq, "data": data}
            return frame(kind, f"{run_id}.{seq}", payload)

        yield event("request.accepted", {"accepted_at": "now"})
        async with app.state.pool.acquire() as connection:
            for _ in range(STATEMENTS):
                await connection.fetchrow("select $1::text as a", run_id)
        await GRAPH.ainvoke({})
        for _ in range(DELTAS):
            yield event("token.delta", {"delta": "word "})
        yield event("message.final", {"text": "word " * DELTAS, "citations": []})
        yield event("done", {})

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/documents")
async def documents() -> list[Row]:
    await app.state.redis.get("key")
    async with app.state.pool.acquire() as connection:
        rows = await connection.fetch("select id, filename, status, content_type, size_bytes from floor_documents")
    return [Row(**dict(row)) for row in rows]


if __name__ == "__main__":
    config = uvicorn.Config(
        app, host="127.0.0.1", port=int(sys.argv[1]), http="httptools", loop="uvloop", access_log=False, log_level="error"
    )
    asyncio.run(uvicorn.Server(config).serve())
