"""Prompts, and reading an answer to its end."""

import asyncio
from collections.abc import Callable

from nexusrag.providers.llm.port import Delta, LanguageModel, Message, Passage, Prompt, Usage

SECRET_WORDS = "walrus protocol"


def prompt(question: str = f"What is the {SECRET_WORDS}?", *texts: str, max_output_tokens: int = 64) -> Prompt:
    passages = tuple(
        Passage(number=number, chunk_id=number, document_id=f"doc_{number}", text=text, score=1 / number)
        for number, text in enumerate(texts, start=1)
    )
    messages = (Message("system", "Answer from the passages."), Message("user", question))
    return Prompt(messages, question, passages, max_output_tokens=max_output_tokens)


async def read(model: LanguageModel, asked: Prompt | None = None) -> tuple[list[str], Usage]:
    """The deltas and the one Usage of an answer; fails if the Usage is not the last thing."""
    pieces: list[str] = []
    usages: list[Usage] = []
    async for piece in model.stream(asked or prompt()):
        if isinstance(piece, Delta):
            assert not usages
            assert piece.text
            pieces.append(piece.text)
        else:
            usages.append(piece)
    assert len(usages) == 1
    return pieces, usages[0]


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Polls `condition` until it is true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
