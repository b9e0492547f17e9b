"""The little language that rules are written in, compiled to something fast. Standard library only.

A phrase is words in a row, within one clause:

    chest pain          these two words
    tight|heavy chest   either of the two, then chest
    my? chest           the first may be missing
    <chest> <hurts>     a list of words from [words]
    chest .. hurts      up to three words between
    chest ... hurts     up to six words between
    chest ~ hurts       in either order, up to six words between
    ^ is|are harmful    at the beginning of a clause only
    #38-43 degrees      a number from 38 to 43
    #10+ pills          a number of 10 or more
    sugar low|#1-3.4    a word or a number

Raises `ValueError` for a phrase that is none.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product

from space.guard.text import Passage

_GAPS = {"..": 3, "...": 6}
_NUMBER = re.compile(r"#([0-9.]+)(?:-([0-9.]+)|\+)")
_ANY_NUMBER = "#"
"""Where the matcher keeps the phrases that it looks for at every number."""


@dataclass(frozen=True)
class _Range:
    low: float
    high: float

    def __contains__(self, word: str) -> bool:
        return _is_number(word) and self.low <= _value(word) <= self.high


def _is_number(word: str) -> bool:
    # Not str.isdigit: that is true of digits of other scripts, too, which float does not read.
    return "0" <= word[:1] <= "9"


def _value(word: str) -> float:
    return float(word.replace(",", "."))


Part = tuple[int, frozenset[str] | _Range]
"""How many words may stand before it, and what it may be."""


@dataclass(frozen=True)
class Phrase:
    concept: str
    parts: tuple[Part, ...]
    opens: bool = False
    """Whether it must begin its clause."""

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
    """The phrases that one line of a rule file stands for: one, and others for words that may be missing or numbers."""
    return [
        _phrase(concept, [element for element in chosen if element], text, lists)
        for order in permutations(text.split(" ~ "))
        for chosen in product(*(_alternatives(element) for element in " ... ".join(order).split()))
    ]


def _alternatives(element: str) -> list[str | None]:
    """What may stand in an element's place: its words, each range of numbers, and nothing (`None`)."""
    options = element.removesuffix("?").split("|")
    numbers = [option for option in options if _NUMBER.fullmatch(option)]
    words = [option for option in options if option not in numbers]
    missing = [None] if element.endswith("?") else []
    return [*(["|".join(words)] if words else []), *numbers, *missing]


def _phrase(concept: str, elements: list[str], text: str, lists: Mapping[str, Sequence[str]]) -> Phrase:
    parts: list[Part] = []
    gap = 0
    opens = elements[:1] == ["^"]
    for element in elements[opens:]:
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
    if not parts:
        raise ValueError(f"{concept}: “{text}” has no word in it")
    return Phrase(concept, tuple(parts), opens)


def _weight(choice: frozenset[str] | _Range, uses: Counter[str], common: Collection[str]) -> int:
    """How often a part will be met: its words in how many phrases, and far more where they are common in any text."""
    if isinstance(choice, _Range):
        return 10_000
    return sum(uses[word] + (1000 if word in common else 0) for word in choice)


class Matcher:
    """Finds phrases in a passage. Each is looked for only where its rarest part stands, and only if every part occurs
    somewhere: what a part may be has a number, and a phrase is ruled out by one comparison of two sets of them."""

    def __init__(self, all_phrases: Sequence[Phrase], common: Collection[str]) -> None:
        uses = Counter(word for phrase in all_phrases for word in set(phrase.words()))
        numbered: dict[frozenset[str] | _Range, int] = {}
        self._at: dict[str, list[tuple[frozenset[int], Phrase, int]]] = {}
        for phrase in all_phrases:
            choices = [choice for _, choice in phrase.parts]
            needs = frozenset(numbered.setdefault(choice, len(numbered)) for choice in choices)
            anchor = min(range(len(choices)), key=lambda i: _weight(choices[i], uses, common))
            rarest = choices[anchor]
            for word in rarest if isinstance(rarest, frozenset) else (_ANY_NUMBER,):
                self._at.setdefault(word, []).append((needs, phrase, anchor))
        self._choices_of: dict[str, set[int]] = {}
        self._ranges: list[tuple[_Range, int]] = []
        for choice, number in numbered.items():
            if isinstance(choice, _Range):
                self._ranges.append((choice, number))
            else:
                for word in choice:
                    self._choices_of.setdefault(word, set()).add(number)

    def hits(self, text: Passage) -> list[Hit]:
        words = text.words
        present = set(words)
        occurring = self._occurring(present)
        possible: dict[str, list[tuple[frozenset[int], Phrase, int]]] = {}
        for word in (*present, _ANY_NUMBER):
            kept = [entry for entry in self._at.get(word, ()) if entry[0] <= occurring]
            if kept:
                possible[word] = kept
        at_numbers = possible.get(_ANY_NUMBER)
        found: set[tuple[str, int, int]] = set()
        for position, word in enumerate(words):
            entries = possible.get(word, ())
            if at_numbers and _is_number(word):
                entries = (*entries, *at_numbers)
            for _, phrase, anchor in entries:
                span = _span(phrase.parts, anchor, position, words, text.stretch)
                if span and not (phrase.opens and span[0] and text.clause[span[0] - 1] == text.clause[span[0]]):
                    found.add((phrase.concept, *span))
        return [Hit(*one) for one in sorted(found, key=lambda one: one[1:])]

    def _occurring(self, present: set[str]) -> set[int]:
        """The numbers of the choices that one of these words fits."""
        occurring = set().union(*(self._choices_of[word] for word in present if word in self._choices_of))
        values = sorted(_value(word) for word in present if _is_number(word))
        for choice, number in self._ranges if values else ():
            first = bisect_left(values, choice.low)
            if first < len(values) and values[first] <= choice.high:
                occurring.add(number)
        return occurring


def _span(
    parts: tuple[Part, ...], anchor: int, position: int, words: list[str], stretch: list[int]
) -> tuple[int, int] | None:
    """Where the phrase stands whose part `anchor` is at `position`; takes the nearest word for each part."""
    here = stretch[position]
    if words[position] not in parts[anchor][1]:
        return None
    end = position
    for i in range(anchor + 1, len(parts)):
        gap, choice = parts[i]
        for candidate in range(end + 1, min(end + 2 + gap, len(words))):
            if stretch[candidate] != here:
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
            if stretch[candidate] != here:
                return None
            if words[candidate] in choice:
                start = candidate
                break
        else:
            return None
    return start, end + 1
