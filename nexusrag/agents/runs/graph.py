"""The graph of a run: history → standalone question → retrieve → generate → verify citations → remember."""

import contextlib
import functools
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from nexusrag.agents.runs import citations, ending, prompts
from nexusrag.agents.runs.context import RunContext, RunState
from nexusrag.agents.runs.metering import ANSWER, REWRITE, call_id
from nexusrag.inference.gateway.facade import Delta, Gateway, Message, Prompt, Usage
from nexusrag.inference.gateway.facade import Passage as PromptPassage
from nexusrag.infra.database import Database
from nexusrag.infra.metrics import RUN_FIRST_EVENT
from nexusrag.infra.turns import Turns
from nexusrag.knowledge.retrieval import facade as retrieval
from nexusrag.knowledge.retrieval.facade import Found
from nexusrag.settings import Settings

Step = Callable[[RunState, Runtime[RunContext]], Awaitable[RunState]]


async def recall(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """The conversation so far, as much of it as the model's window holds."""
    gateway = runtime.context.live.resources.get(Gateway)
    history = tuple(Message(role, content) for role, content in runtime.context.said_before)  # type: ignore[arg-type]  # the table knows two roles
    return {"history": prompts.trimmed(history, gateway.prompt_tokens * 2)}


async def stand_alone(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """A follow-up question, made understandable without the conversation."""
    context, live = runtime.context, runtime.context.live
    gateway = live.resources.get(Gateway)
    question = await gateway.standalone(
        context.message,
        state["history"],
        tenant_id=live.principal.tenant_id,
        call_id=call_id(live.run_id, REWRITE),
        ask=context.meter.ask,
    )
    return {"question": question}


async def retrieve(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """The passages that the caller may see, in a transaction of its own that ends before the model is asked."""
    context, live = runtime.context, runtime.context.live
    resources, settings = live.resources, live.resources.get(Settings)
    vector = await retrieval.embed_question(resources, state["question"], tenant_id=live.principal.tenant_id)
    context.meter.embed(state["question"])
    async with resources.get(Database).work(live.principal.tenant_id, reads=True, options=retrieval.options(settings)) as work:
        found = await retrieval.search(resources, work, live.caller, context.where, state["question"], vector, context.top_k)
    context.meter.searches += 1
    live.document_ids = sorted({passage.document_id for passage in found.passages})
    context.mark("retrieved")
    if settings.runtime.debug_events:
        live.emit("debug.retrieval", _debug(found, state["question"]))
    return {"found": found}


async def generate(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """The answer, piece by piece. Without passages the model is not asked: it could only invent."""
    context, live = runtime.context, runtime.context.live
    gateway = live.resources.get(Gateway)
    found = state["found"]
    numbered = prompts.fitting(
        [
            PromptPassage(number, passage.chunk_id, passage.document_id, passage.text, passage.score)
            for number, passage in enumerate(found.passages, 1)
        ],
        gateway.prompt_tokens,
    )
    passages = tuple(found.passages[: len(numbered)])
    if not passages:
        live.emit("token.delta", {"delta": prompts.NOTHING_FOUND})
        return {"answer": prompts.NOTHING_FOUND, "usage": None, "passages": ()}
    prompt = Prompt(
        messages=prompts.build(
            state["question"], numbered, [passage.heading for passage in passages], state["history"], gateway.prompt_tokens
        ),
        question=state["question"],
        passages=numbered,
        max_output_tokens=context.max_output_tokens,
        tenant_id=live.principal.tenant_id,
        call_id=call_id(live.run_id, ANSWER),
    )
    pieces: list[str] = []
    usage: Usage | None = None
    asked = context.meter.ask(prompt)
    live.resources.get(Turns).leave(context.turn)
    async with contextlib.aclosing(gateway.stream(prompt)) as stream:
        async for piece in stream:
            asked.take(piece)
            if isinstance(piece, Delta):
                if not pieces:
                    context.mark("first_token")
                    RUN_FIRST_EVENT.observe(perf_counter() - context.began)
                text = piece.text.replace("\0", "\ufffd")  # the database keeps no NUL, and a model may say one
                pieces.append(text)
                live.emit("token.delta", {"delta": text})
            else:
                usage = piece
    context.mark("generated")
    return {"answer": "".join(pieces), "usage": usage, "passages": passages}


async def verify(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Only citations that hold are sent; an answer with none says that it has no support."""
    checked = citations.verified(state["answer"], state["passages"])
    usage = state["usage"]
    grounded = bool(checked) and (usage is None or usage.grounded is not False)
    return {"citations": checked if grounded else [], "grounded": grounded}


async def remember(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Write the end of the run down, then show it."""
    await ending.succeed(runtime.context, state)
    return {}


def _debug(found: Found, question: str) -> dict[str, Any]:
    return {
        "method": found.method,
        "complete": found.complete,
        "question": question,
        "num_hits": len(found.passages),
        "hits": [
            {
                "chunk_id": passage.chunk_id,
                "document_id": passage.document_id,
                "score": passage.score,
                "bm25": passage.bm25,
                "cosine": passage.cosine,
            }
            for passage in found.passages
        ],
    }


def _in_turn(step: Step) -> Any:  # which LangGraph takes for a node by its parameters' names
    @functools.wraps(step)
    async def taken(state: RunState, runtime: Runtime[RunContext]) -> RunState:
        context = runtime.context
        await context.live.resources.get(Turns).pause(context.turn)  # others may go first
        return await step(state, runtime)

    return taken


def _compile() -> Any:
    graph = StateGraph(RunState, context_schema=RunContext)
    steps = {
        "history": recall,
        "standalone_question": stand_alone,
        "retrieve": retrieve,
        "generate": generate,
        "verify_citations": verify,
        "remember": remember,
    }
    previous = START
    for name, step in steps.items():
        graph.add_node(name, _in_turn(step))
        graph.add_edge(previous, name)
        previous = name
    graph.add_edge(previous, END)
    return graph.compile()


GRAPH = _compile()
