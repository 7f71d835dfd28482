"""A model that computes nothing: a text's vector holds its number of words. It can be held, and records its batches."""

import threading
from collections.abc import Sequence

import numpy as np

from nexusrag.providers.embeddings.local.weights import HIDDEN, Floats


class StandInModel:
    """Tokens are the words' lengths. `gate` is open at first; `batches` holds the token lists of each batch in order."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.at_the_gate = threading.Semaphore(0)
        self.batches: list[list[list[int]]] = []
        self.released = threading.Event()

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        return [[len(word) for word in text.split()] or [0] for text in texts]

    def embed(self, batch: Sequence[Sequence[int]]) -> Floats:
        self.entered.set()
        self.at_the_gate.release()
        assert self.gate.wait(30)
        self.batches.append([list(tokens) for tokens in batch])
        vectors = np.zeros((len(batch), HIDDEN), np.float32)
        vectors[:, 0] = [len(tokens) for tokens in batch]
        vectors[:, 1] = [tokens[0] for tokens in batch]
        return vectors

    def release(self) -> None:
        self.released.set()
