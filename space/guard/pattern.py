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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, permutations, product

from space.guard.text import Passage

_GAPS = {"..": 3, "...": 6}
_NUMBER = re.compile(r"#([0-9.]+)(?:-([0-9.]+)|\+)")


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
    """A concept that words `start` to `end` (exclusive) of a passage name; `places` are those that the phrase has itself."""

    concept: str
    start: int
    end: int
    places: tuple[int, ...] = ()


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


Steps = tuple[tuple[int, int], ...]
"""A phrase with its choices numbered: for each part, how many words may stand before it, and its number."""


class Matcher:
    """Finds phrases in a passage. What a part may be has a number, and the places where it stands are the bits of an
    integer: a phrase is followed from part to part by shifting them, all places at once."""

    def __init__(self, all_phrases: Sequence[Phrase]) -> None:
        numbered: dict[frozenset[str] | _Range, int] = {}
        concepts: dict[tuple[Steps, bool], list[str]] = {}
        for phrase in all_phrases:
            steps = tuple((gap, numbered.setdefault(choice, len(numbered))) for gap, choice in phrase.parts)
            concepts.setdefault((steps, phrase.opens), []).append(phrase.concept)
        self._choices = list(numbered)
        # Phrases of the same words, in whatever concept, are looked for once, and only where the part of them that has
        # the fewest words occurs.
        self._sought: dict[int, list[tuple[frozenset[int], Steps, bool, tuple[str, ...]]]] = {}
        for (steps, opens), named in concepts.items():
            needs = frozenset(number for _, number in steps)
            rarest = min(needs, key=lambda number: (_size(self._choices[number]), number))
            self._sought.setdefault(rarest, []).append((needs, steps, opens, tuple(dict.fromkeys(named))))
        self._ranges = [(choice, number) for choice, number in numbered.items() if isinstance(choice, _Range)]
        listed: dict[str, set[int]] = {}
        for choice, number in numbered.items():
            for word in choice if isinstance(choice, frozenset) else ():
                listed.setdefault(word, set()).add(number)
        self._choices_of = {word: frozenset(numbers) for word, numbers in listed.items()}

    def hits(self, text: Passage) -> list[Hit]:
        positions: dict[str, int] = {}
        for i, word in enumerate(text.words):
            positions[word] = positions.get(word, 0) | 1 << i
        places = self._numbers(positions)
        occurring = set(places).union(*(self._choices_of[word] for word in positions if word in self._choices_of))
        opening, near = _divisions(text)
        found: set[tuple[tuple[int, ...], str]] = set()
        for needs, steps, opens, concepts in chain.from_iterable(self._sought.get(number, ()) for number in occurring):
            if needs <= occurring:
                for number in needs:
                    if number not in places:
                        places[number] = _union(positions, self._choices[number])
                for stood in _places(steps, places, near, opening if opens else -1):
                    found.update((stood, concept) for concept in concepts)
        return [Hit(concept, stood[0], stood[-1] + 1, stood) for stood, concept in sorted(found)]

    def _numbers(self, positions: Mapping[str, int]) -> dict[int, int]:
        """Where there are numbers of each range that has any."""
        values = [(_value(word), bits) for word, bits in positions.items() if _is_number(word)]
        places: dict[int, int] = {}
        for choice, number in self._ranges if values else ():
            for value, bits in values:
                if choice.low <= value <= choice.high:
                    places[number] = places.get(number, 0) | bits
        return places


def _size(choice: frozenset[str] | _Range) -> int:
    return len(choice) if isinstance(choice, frozenset) else 1


def _union(positions: Mapping[str, int], words: frozenset[str] | _Range) -> int:
    bits = 0
    if isinstance(words, frozenset):
        for word in words & positions.keys():
            bits |= positions[word]
    return bits


def _divisions(text: Passage) -> tuple[int, list[int]]:
    """The words that begin a clause, and for each distance those that have a word of their stretch that far before."""
    opening, next_to = 0, 0
    for i in range(len(text.words)):
        if i == 0 or text.clause[i] != text.clause[i - 1]:
            opening |= 1 << i
        if i and text.stretch[i] == text.stretch[i - 1]:
            next_to |= 1 << i
    near = [-1, next_to]
    for _ in range(max(_GAPS.values())):
        near.append(next_to & (near[-1] << 1))
    return opening, near


def _places(steps: Steps, places: Mapping[int, int], near: Sequence[int], opening: int) -> list[tuple[int, ...]]:
    """Where a phrase stands: for each place of its last part, the nearest way back to the first."""
    reached = [places[steps[0][1]] & opening]
    for gap, number in steps[1:]:
        before, after = reached[-1], 0
        for distance in range(1, gap + 2):
            after |= (before << distance) & near[distance]
        after &= places[number]
        if not after:
            return []
        reached.append(after)
    found = []
    ends = reached.pop()
    while ends:
        position = ends.bit_length() - 1
        ends ^= 1 << position
        path = [position]
        for before in reversed(reached):
            position = (before & ((1 << position) - 1)).bit_length() - 1
            path.append(position)
        found.append(tuple(reversed(path)))
    return found
