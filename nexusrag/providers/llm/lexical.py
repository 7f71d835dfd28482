"""Words of a question against words of sentences: tokens, light stems, BM25. English by its stop words and endings; else plain words."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_VOWEL = re.compile(r"[aeiouy]")
_K1, _B = 1.2, 0.75


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_STOP = _words(
    "a about above after again all also am an and any are as at be because been before being below between both but by can could "
    "did do does doing done down during each few for from further had has have having he her here hers him his how i if in into is "
    "it its itself just many may me might more most much must my no nor not of off on once only or other our out over own please "
    "s same shall she should so some such t tell than that the their them then there these they this those through to too under "
    "until up us very was we were what when where which while who whom whose why will with would you your"
)


def terms(text: str) -> list[str]:
    """Stems of the words of `text` that carry meaning, in order."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    if not plain.isascii():
        plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return [stem(word) for word in _TOKEN.findall(plain) if word not in _STOP]


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """`word` (lower case) without its commonest English endings, so that forms of one word mostly meet."""
    if len(word) <= 3 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-2] if word.endswith("sses") else word[:-1]
    for ending in ("ing", "ed"):
        root = word.removesuffix(ending)
        if root is not word and len(root) >= 3 and _VOWEL.search(root):
            word = root[:-1] if root[-1] == root[-2] and root[-1] not in "lsz" else root
            break
    if word.endswith("ly") and len(word) > 5:
        word = word[:-2]
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def bm25(question: Sequence[str], sentences: Sequence[Sequence[str]]) -> list[float]:
    """Score of each of `sentences` for `question`, both as terms; the sentences are the whole collection."""
    if not sentences:
        return []
    asked = Counter(question)
    counts = [Counter(term for term in sentence if term in asked) for sentence in sentences]
    found = Counter(term for count in counts for term in count)
    mean = sum(map(len, sentences)) / len(sentences) or 1.0
    weight = {term: asked[term] * math.log(1 + (len(sentences) - number + 0.5) / (number + 0.5)) for term, number in found.items()}
    return [
        sum(weight[term] * times * (_K1 + 1) / (times + _K1 * (1 - _B + _B * len(sentence) / mean)) for term, times in count.items())
        for count, sentence in zip(counts, sentences, strict=True)
    ]


def coverage(question: Sequence[str], texts: Sequence[Sequence[str]]) -> float:
    """Share of the question's distinct terms that occur in the best of `texts`; 0 for a question without terms."""
    asked = set(question)
    return max((len(asked.intersection(text)) / len(asked) for text in texts), default=0.0) if asked else 0.0
