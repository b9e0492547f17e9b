"""A second reader of English messages: a small network over their words, pairs of words and letters, and what the rules saw.

The rules know the phrases that somebody thought of; people say it otherwise. `python -m train guard` makes
classifier.safetensors from the labelled messages. The first layer is a hashed embedding bag (Weinberger et al. 2009; Joulin
et al. 2016) of whole numbers, so that its sums are the same on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import log
from pathlib import Path
from zlib import crc32

import numpy as np
import safetensors

from space.guard.text import Passage

FILE = Path(__file__).parent / "classifier.safetensors"
BUCKETS = 1 << 16
WEIGHTS = {"none": 1.0, "emergency": 1.0, "self-harm": 3.0, "harm": 3.0, "dosing": 1.0}
"""What missing a kind costs, beside a false alarm."""
RAISE, KEEP, SURE = 1.0, 0.0, 0.5
"""The odds from which a message is something without and with a sign of the rules, and the probability from which a further
kind is added. Chosen, with the weights, on dev.jsonl."""
_LETTERS = 4
_TENSORS = ("table", "scale", "bias", "out", "out_bias")


@dataclass(frozen=True)
class Opinion:
    """What the network makes of a message."""

    kinds: Mapping[str, float]
    """The probability of each kind."""

    @property
    def odds(self) -> float:
        """The log odds that there is anything, each kind weighed by what missing it costs."""
        weighed = {kind: WEIGHTS[kind] * probability for kind, probability in self.kinds.items()}
        quiet = weighed.pop("none")
        return log(max(sum(weighed.values()), 1e-12)) - log(max(quiet, 1e-12))


def features(text: Passage, earlier: Iterable[Passage], seen: Iterable[str]) -> list[int]:
    """The buckets of a message, each once: its words, pairs and letters, the words said earlier, what the rules saw."""
    words = ["#" if word[0].isdigit() else word for word in text.words]
    found: set[int] = set()
    for word in set(words):
        found.update(_of_word(word))
    for i in range(len(words) - 1):
        if text.sentence[i] == text.sentence[i + 1]:
            found.add(_bucket(f"pair {words[i]} {words[i + 1]}"))
    for passage in earlier:
        found.update(_bucket(f"earlier {word}") for word in set(passage.words))
    found.update(_bucket(f"rules {name}") for name in seen)
    return sorted(found)


@lru_cache(maxsize=20_000)
def _of_word(word: str) -> tuple[int, ...]:
    edged = f"<{word}>"
    pieces = (edged[i : i + _LETTERS] for i in range(len(edged) - _LETTERS + 1))
    return (_bucket(f"word {word}"), *(_bucket(f"letters {piece}") for piece in pieces))


def _bucket(feature: str) -> int:
    return crc32(feature.encode()) % BUCKETS


class Classifier:
    """The network: embedding bag divided by the root of its size, ReLU, one linear layer, softmax over the labels."""

    def __init__(self, tensors: Mapping[str, np.ndarray], kinds: Sequence[str]) -> None:
        self._table, self._scale, self._bias, self._out, self._out_bias = (tensors[name] for name in _TENSORS)
        self._kinds = np.array(kinds)

    def __call__(self, buckets: Sequence[int]) -> Opinion:
        """Judges the `features` of a message."""
        total = self._table[list(buckets)].sum(axis=0, dtype=np.int64)
        hidden = np.maximum(total * self._scale / max(1, len(buckets)) ** 0.5 + self._bias, 0)
        scores = self._out @ hidden + self._out_bias
        weights = np.exp(scores - scores.max())
        share = weights / weights.sum()
        return Opinion({kind: float(share[self._kinds == kind].sum()) for kind in WEIGHTS})


@cache
def classifier() -> Classifier:
    """The one in the repository."""
    with safetensors.safe_open(FILE, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in _TENSORS}
        return Classifier(tensors, json.loads(file.metadata()["kinds"]))
