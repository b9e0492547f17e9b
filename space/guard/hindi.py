"""Hindi in Latin letters: a key that is the same for a word in Devanagari and for the ways in which people type it.

There is no agreed spelling: "साँस" is typed saans, sans or saas. The key leaves out what they differ in: every "a" but a
first one, the length of vowels, doubled letters, v or w, j or z. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SOUNDS = """
कk खkh गg घgh ङn चc छc जj झjh ञn टt ठth डd ढdh णn तt थth दd धdh नn पp फf बb भbh मm यy रr लl वv शs षs सs हh
अa आa इi ईi उu ऊu एe ऐe ओo औo ऑo
ा िi ीi ुu ूu ृri ेe ैe ोo ौo ॉo ंn ः ्
"""
_LETTERS = {pair[0]: pair[1:] for pair in _SOUNDS.split()}
_TYPED = [
    (re.compile(pattern), letter)
    for pattern, letter in (
        ("chh?", "§"), ("c", "k"), ("§", "c"), ("sh", "s"), ("ph", "f"), ("w", "v"), ("z", "j"), ("q", "k"), ("x", "ks"),
        ("ee", "i"), ("oo|ou", "u"), ("au", "o"), ("a[iy]|ei", "e"), ("eh(?=[^aeiou])", "h"),
    )
]  # fmt: skip
_SAME = [
    (re.compile(pattern), letter)
    for pattern, letter in ((r"m(?=[bp])", "n"), (r"(?<!^)a", ""), (r"iy|yi", "i"), (r"(.)\1+", r"\1"))
]


def typed(word: str) -> str:
    """The key of a word in Latin letters."""
    for pattern, letter in _TYPED:
        word = pattern.sub(letter, word)
    return _even(word)


def keys(word: str) -> set[str]:
    """The keys of a word in Devanagari: a last nasal may be typed or not, and ड also as r."""
    plain = "".join(_LETTERS.get(letter, "") for letter in word)
    spellings = {plain, plain.replace("d", "r")}
    if word.endswith("ं"):
        spellings |= {spelling[:-1] for spelling in spellings}
    return {_even(spelling) for spelling in spellings}


def by_key(words: Iterable[str]) -> dict[str, list[str]]:
    """The words in Devanagari for each key, those with fewer long "a" first."""
    found: dict[str, list[str]] = {}
    for word in sorted(words, key=lambda word: (word.count("ा"), word)):
        if len(word) > 1 and not word.isascii():
            for key in keys(word):
                if len(key) > 1:
                    found.setdefault(key, []).append(word)
    return found


def meant(word: str, words: dict[str, list[str]]) -> str:
    """Of what `by_key` found, the word that is typed so, or the typed word: a long "a" is often, not always, typed "aa"."""
    found = words.get(typed(word))
    if not found:
        return word
    return found[-1 if "aa" in word else 0]


def _even(word: str) -> str:
    for pattern, letter in _SAME:
        word = pattern.sub(letter, word)
    return word
