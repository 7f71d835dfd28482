"""One call of a language model, as far as it has got: what it took can be told whenever it ends, and however."""

from dataclasses import dataclass

from nexusrag.providers.llm.port import Delta, Prompt, Usage


@dataclass(slots=True)
class Asked:
    """`usage` is what the model said at the end; until then there are the deltas that were received."""

    prompt: Prompt
    deltas: int = 0
    characters: int = 0
    usage: Usage | None = None

    def take(self, piece: Delta | Usage) -> None:
        """Count what the model sent."""
        if isinstance(piece, Delta):
            self.deltas += 1
            self.characters += len(piece.text)
        else:
            self.usage = piece
