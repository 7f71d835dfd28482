"""all-MiniLM-L6-v2: texts to tokens, and batches of tokens to vectors. Blocks.

A batch is computed by the thread that asks, and by no other: threads that share one wait for each other in each of its hundred steps,
and whenever one of them is kept from its processor, all of them wait. Several batches at once, each by one thread, are faster.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from nexusrag.providers.embeddings.local import memory
from nexusrag.providers.embeddings.local.weights import HIDDEN, TOKENS, Floats, Safetensors, model_directory, verify

_GRAPH = Path(__file__).with_name("minilm.onnx")
_ERRORS_ONLY = 3


class MiniLM:
    """The model in this process: about 110 MB with the interpreter, 170 while it computes; `release` gives the difference back.

    `embed` may be called by several threads at once.
    """

    def __init__(self) -> None:
        """Load. Raises ModelMissing."""
        directory = model_directory()
        with ThreadPoolExecutor(1) as beside:
            verified = beside.submit(verify, directory)
            self._file = Safetensors(directory / "model.safetensors")
            self._words = self._file.words
            self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
            verified.result()
        self._tokenizer.enable_truncation(TOKENS)
        self._tokenizer.no_padding()
        self._session = _open_session(self._file)
        self.release()

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, `TOKENS` at most: the rest of a longer text is not seen. Never empty: two of them are marks."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def embed(self, batch: Sequence[Sequence[int]]) -> Floats:
        """Vectors of texts given as token ids, shape (len(batch), 384), of length 1. Time goes with the longest text."""
        ids = np.zeros((len(batch), max(map(len, batch))), np.int64)
        mask = np.zeros(ids.shape, np.int32)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        vectors: Floats = self._session.run(["embedding"], {"words": self._words[ids], "mask": mask})[0]
        assert vectors.shape == (len(batch), HIDDEN)
        return vectors

    def release(self) -> None:
        """Give memory that the last batches needed back to the system. The next batch takes a few milliseconds longer."""
        self._file.drop_pages()
        memory.give_back()


def _open_session(file: Safetensors) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # The arena never gives back what the largest batch needed; without it the rate is the same.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    weights = file.graph_weights()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(weight) for weight in weights.values()]
    options.add_external_initializers(list(weights), values)
    # The session makes its own copies: ours are freed on return.
    return onnxruntime.InferenceSession(_GRAPH, options, providers=["CPUExecutionProvider"])
