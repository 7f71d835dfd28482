"""What a run uses: estimated before it begins, counted while it goes on, settled however it ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from nexusrag.agents.runs import prompts
from nexusrag.agents.speech.facade import Spoken
from nexusrag.billing.costs.facade import Metered, Prices, priced, prices_of, total
from nexusrag.billing.ledger.facade import Line
from nexusrag.inference.gateway.facade import Asked, Gateway, Prompt, Usage
from nexusrag.infra.database import Work
from nexusrag.infra.resources import Resources
from nexusrag.kernel import clock
from nexusrag.providers.embeddings.port import Embedder, EmbeddingModel
from nexusrag.providers.llm.port import CHARACTERS_PER_TOKEN, estimate_tokens, most_tokens, most_tokens_like
from nexusrag.settings import Settings

REWRITE, ANSWER = "question", "answer"
_REWRITTEN = 200  # tokens of a question that was made to stand alone, at most
_TOLD = Decimal(1)  # what a token counts that a model has told


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run used: tokens of language models, and everything as lines of the ledger."""

    tokens: int
    lines: tuple[Line, ...]
    estimated: bool


@dataclass(slots=True)
class Meter:
    """Counts for one run. `prices` are those in force when it was accepted."""

    gateway: Gateway
    settings: Settings
    model: EmbeddingModel
    prices: Prices
    asked: list[Asked] = field(default_factory=list)
    embedded: int = 0
    searches: int = 0
    spoken: Spoken = field(default_factory=Spoken)

    def ask(self, prompt: Prompt) -> Asked:
        """Count one call of the language model, which is about to begin."""
        self.asked.append(Asked(prompt))
        return self.asked[-1]

    def embed(self, text: str) -> None:
        self.embedded += estimate_tokens(text)

    def spent(self) -> Spent:
        """So far. A call that ended without its own figures counts what was received; one that said nothing counts nothing."""
        return self.of([usage for asked in self.asked if (usage := self.gateway.so_far(asked)) is not None], unsure=self._unsure)

    def of(self, usages: Sequence[Usage], *, unsure: bool = False, at: datetime | None = None) -> Spent:
        """The same with these figures of the language model. `unsure`: there may be more to it. `at`: when the run ended, unless now."""
        estimated = unsure or any(usage.estimated for usage in usages)
        read, wrote = sum(usage.input_tokens for usage in usages), sum(usage.output_tokens for usage in usages)
        metered = self._metered(read, wrote, self.embedded, self.searches, self.spoken, estimated, calls=len(usages))
        return Spent(read + wrote, tuple(priced(self.prices, metered, at or clock.now())), estimated)

    def most(self, question: str, said_before: Sequence[tuple[str, str]], top_k: int, output_tokens: int, *, audio: bool) -> Spent:
        """What a run may take at most, by estimate.

        Its passages are not known yet: they are taken to be in the script of what was asked and answered so far.
        """
        ingestion = self.settings.ingestion
        texts = [question, *(content for _, content in said_before)]
        said = most_tokens(*texts)
        passages = top_k * most_tokens_like(texts, ingestion.chunk_size_chars + ingestion.chunk_overlap_chars)
        window = most_tokens_like(texts, self.gateway.prompt_tokens * CHARACTERS_PER_TOKEN)  # prompts are trimmed by characters
        read = min(window, said + passages + prompts.FRAME_TOKENS)
        if said_before:
            read, output_tokens = read + said + prompts.FRAME_TOKENS, output_tokens + _REWRITTEN
        spoken = Spoken(output_tokens * 4 if audio else 0)
        metered = self._metered(read, output_tokens, estimate_tokens(question), 1, spoken, True, calls=2 if said_before else 1)
        # The model may tell its own figures, which are not scaled as estimates are: those must find room as well.
        prices = replace(self.prices, estimated_token=max(self.prices.estimated_token, _TOLD))
        return Spent(read + output_tokens, tuple(priced(prices, metered, clock.now())), True)

    @property
    def _unsure(self) -> bool:
        return any(asked.usage is None for asked in self.asked)

    def _metered(
        self, read: int, wrote: int, embedded: int, searches: int, spoken: Spoken, estimated: bool, *, calls: int
    ) -> list[Metered]:
        settings = self.settings
        metered = []
        if calls:
            metered.append(
                Metered(
                    component="llm", provider=settings.llm.llm_provider, model=self.gateway.model_name,
                    input_tokens=read, output_tokens=wrote, requests=calls, estimated=estimated,
                )
            )  # fmt: skip
        if embedded:
            provider = settings.embeddings.embedding_provider
            metered.append(Metered(component="embedding", provider=provider, model=self.model.name, input_tokens=embedded, estimated=True))
        if searches:
            metered.append(Metered(component="retrieval", provider="local_pgvector", requests=searches))
        if spoken.characters:
            metered.append(
                Metered(
                    component="tts", provider=settings.speech.tts_provider, characters=spoken.characters, estimated=not spoken.heard
                )
            )  # fmt: skip
        return metered


def call_id(run_id: str, which: str) -> str:
    """A model call of a run, as providers are told it."""
    return f"{run_id}.{which}"


async def meter_of(resources: Resources, work: Work) -> Meter:
    """A meter at zero for a run of the transaction's tenant."""
    embedder = resources.get(Embedder)
    return Meter(resources.get(Gateway), resources.get(Settings), embedder.model, await prices_of(resources, work))


def dollars(spent: Spent) -> Decimal:
    return total(list(spent.lines))
