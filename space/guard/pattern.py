"""The little language that rules are written in, compiled to something fast. Standard library only.

A phrase is words in a row, within one clause:

    chest pain          these two words
    tight|heavy chest   either of the two, then chest
    my? chest           the first may be missing
    <chest> <hurts>     a list of words from [words]
    chest .. hurts      up to three words between
    chest ... hurts     up to six words between
    #38-43 degrees      a number from 38 to 43
    #10+ pills          a number of 10 or more

Raises `ValueError` for a phrase that is none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from space.guard.text import Passage

_GAPS = {"..": 3, "...": 6}
_NUMBER = re.compile(r"#([0-9.]+)(?:-([0-9.]+)|\+)")


@dataclass(frozen=True)
class _Range:
    low: float
    high: float

    def __contains__(self, word: str) -> bool:
        if not word[:1].isdigit():
            return False
        return self.low <= float(word.replace(",", ".")) <= self.high


Part = tuple[int, frozenset[str] | _Range]
"""How many words may stand before it, and what it may be."""


@dataclass(frozen=True)
class Phrase:
    concept: str
    parts: tuple[Part, ...]

    def words(self) -> Iterable[str]:
        for _, choice in self.parts:
            if isinstance(choice, frozenset):
                yield from choice


@dataclass(frozen=True)
class Hit:
    """A concept that words `start` to `end` (exclusive) of a passage name."""

    concept: str
    start: int
    end: int


def phrases(concept: str, text: str, lists: Mapping[str, Sequence[str]]) -> list[Phrase]:
    """The phrases that one line of a rule file stands for: one, and another for each word that may be missing."""
    alternatives: list[list[str | None]] = []
    for element in text.split():
        if element.endswith("?"):
            alternatives.append([element[:-1], None])
        else:
            alternatives.append([element])
    return [_phrase(concept, [e for e in chosen if e], text, lists) for chosen in product(*alternatives)]


def _phrase(concept: str, elements: list[str], text: str, lists: Mapping[str, Sequence[str]]) -> Phrase:
    parts: list[Part] = []
    gap = 0
    for element in elements:
        if element in _GAPS:
            gap = _GAPS[element]
            continue
        if number := _NUMBER.fullmatch(element):
            parts.append((gap, _Range(float(number[1]), float(number[2] or "inf"))))
        else:
            words: set[str] = set()
            for option in element.split("|"):
                if option.startswith("<"):
                    if option[1:-1] not in lists:
                        raise ValueError(f"{concept}: “{text}” names {option}, which is not in [words]")
                    words.update(lists[option[1:-1]])
                else:
                    words.add(option)
            parts.append((gap, frozenset(words)))
        gap = 0
    if not any(isinstance(choice, frozenset) for _, choice in parts):
        raise ValueError(f"{concept}: “{text}” has no word in it")
    return Phrase(concept, tuple(parts))


def _weight(choice: Any, uses: Counter[str], common: Collection[str]) -> int:
    """How often the words of a part will be met: in how many phrases, and far more where they are common in any text."""
    return sum(uses[word] + (1000 if word in common else 0) for word in choice)


class Matcher:
    """Finds phrases in a passage. Each is looked for only where its rarest word stands."""

    def __init__(self, all_phrases: Sequence[Phrase], common: Collection[str]) -> None:
        uses = Counter(word for phrase in all_phrases for word in set(phrase.words()))
        self._at: dict[str, list[tuple[Phrase, int]]] = {}
        for phrase in all_phrases:
            anchor = min(
                (i for i, (_, choice) in enumerate(phrase.parts) if isinstance(choice, frozenset)),
                key=lambda i: _weight(phrase.parts[i][1], uses, common),  # used at once
            )
            for word in phrase.parts[anchor][1]:  # type: ignore[union-attr]
                self._at.setdefault(word, []).append((phrase, anchor))

    def hits(self, text: Passage) -> list[Hit]:
        words = text.words
        present = set(words)
        numbers = any(word[:1].isdigit() for word in present)
        possible: dict[str, list[tuple[Phrase, int]]] = {}
        for word in present:
            kept = [
                (phrase, anchor)
                for phrase, anchor in self._at.get(word, ())
                if all(
                    (numbers if isinstance(choice, _Range) else not choice.isdisjoint(present))
                    for _, choice in phrase.parts
                )
            ]
            if kept:
                possible[word] = kept
        found: set[tuple[str, int, int]] = set()
        for position, word in enumerate(words):
            for phrase, anchor in possible.get(word, ()):
                span = _span(phrase.parts, anchor, position, words, text.clause)
                if span:
                    found.add((phrase.concept, *span))
        return [Hit(*one) for one in sorted(found, key=lambda one: one[1:])]


def _span(
    parts: tuple[Part, ...], anchor: int, position: int, words: list[str], clause: list[int]
) -> tuple[int, int] | None:
    """Where the phrase stands whose part `anchor` is at `position`; takes the nearest word for each part."""
    here = clause[position]
    end = position
    for i in range(anchor + 1, len(parts)):
        gap, choice = parts[i]
        for candidate in range(end + 1, min(end + 2 + gap, len(words))):
            if clause[candidate] != here:
                return None
            if words[candidate] in choice:
                end = candidate
                break
        else:
            return None
    start = position
    for i in range(anchor, 0, -1):
        gap, choice = parts[i][0], parts[i - 1][1]
        for candidate in range(start - 1, max(start - 2 - gap, -1), -1):
            if clause[candidate] != here:
                return None
            if words[candidate] in choice:
                start = candidate
                break
        else:
            return None
    return start, end + 1
