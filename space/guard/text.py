"""From a message to words and clauses, in linear time and for any Unicode. Standard library only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from space.guard import hindi

_APOSTROPHES = "'’‘`´ʼ＇"
_SOFT, _HARD = frozenset(",:()"), frozenset(".;!?\n…।؟")
# Letters and, for Hindi, the vowel signs that Python's \w leaves out; numbers with one decimal point; punctuation.
_TOKEN = re.compile(r"[0-9]+(?:[.,][0-9]+)?|(?:[^\W\d_]|[\u0900-\u0963'])+|[.,:;!?()\n…।؟]")
_REPEATED = re.compile(r"([^\W\d_])\1\1+")
_NOT_STRIPPED = re.compile("[\u0900-\u093b\u093d-\u097f]")
_MOST_REMEMBERED = 20_000


class _Fold(dict[int, str]):
    """One character at a time (so that no run of combining marks can take quadratic time): compatibility form, lower
    case, ASCII digits, without accents, tatweel and zero-width characters."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if char in _APOSTROPHES:
            folded = "'"
        elif char in ".,،؛":
            folded = {"،": ",", "؛": ";"}.get(char, char)
        else:
            folded = "".join(
                str(unicodedata.decimal(c))
                if unicodedata.decimal(c, None) is not None
                else ""
                if (unicodedata.category(c) in ("Mn", "Cf") and not _NOT_STRIPPED.match(c)) or c == "ـ"
                else _SAME.get(c, c)
                for c in unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
            )
        if len(self) < _MOST_REMEMBERED:
            self[code] = folded
        return folded


# Letters written one for the other: Arabic alef maqsura, ta marbuta, alef wasla (NFKD takes the hamzas off); the Hindi
# candrabindu; the French ligature.
_SAME = {"ى": "ي", "ة": "ه", "ٱ": "ا", "ँ": "ं", "œ": "oe"}
_FOLD = _Fold()


def fold(text: str) -> str:
    """The text in the one spelling that rules are compared in: `"Éàß’S NOOOO"` is `"eass's noo"`."""
    folded = text.lower().replace("`", "'") if text.isascii() else text.translate(_FOLD)
    return _REPEATED.sub(r"\1\1", folded)


def tokens(folded: str, apostrophe: str = "") -> list[str]:
    """Words, numbers and punctuation of a folded text. An apostrophe joins (`cant`), or is replaced."""
    return _TOKEN.findall(folded.replace("'", apostrophe))


@dataclass(frozen=True)
class Passage:
    """The words of a message, with the clause, the stretch and the sentence each stands in."""

    words: list[str]
    clause: list[int]
    stretch: list[int]
    """What a phrase may span: clauses that only a link ("and") divides are one."""
    sentence: list[int]


@dataclass(frozen=True)
class Grammar:
    """The small words by which a language divides a message, see `passage`."""

    splitters: frozenset[str]
    links: frozenset[str]
    subjects: frozenset[str]
    joiners: frozenset[str]


def passage(found: list[str], spell: Speller, grammar: Grammar) -> Passage:
    """Clauses end at punctuation, before a splitter ("but") or a link ("and"), and before a subject ("my", "he") that no
    joiner ("if my", "is he") ties to the word before it: people leave out full stops."""
    words: list[str] = []
    clause: list[int] = []
    stretch: list[int] = []
    sentence: list[int] = []
    c = s = t = 0
    fresh = True
    for token in found:
        if token in _HARD:
            c, t, s, fresh = c + 1, t + 1, s + 1, True
            continue
        if token in _SOFT:
            c, t, fresh = c + 1, t + 1, True
            continue
        word = spell(token)
        if not fresh:
            if word in grammar.links:
                c += 1
            elif word in grammar.splitters or (word in grammar.subjects and words[-1] not in grammar.joiners):
                c, t = c + 1, t + 1
        words.append(word)
        clause.append(c)
        stretch.append(t)
        sentence.append(s)
        fresh = False
    return Passage(words, clause, stretch, sentence)


class Speller:
    """Puts a misspelt word right if exactly one edit away from a word of the rules: a letter too many, too few, wrong,
    or two swapped. Words of fewer than 5 letters, real words (`known`) and the rules' own stay as they are. Prefixes and
    suffixes that a language writes together with its words (Arabic "and", "the", "my") come off first. Hindi words in
    Latin letters are looked up by their sound, where `romanised`."""

    def __init__(
        self,
        vocabulary: Iterable[str],
        known: Iterable[str],
        aliases: dict[str, str],
        prefixes: Sequence[str] = (),
        suffixes: Sequence[str] = (),
        romanised: bool = False,
    ) -> None:
        self.vocabulary = frozenset(vocabulary)
        self._known = frozenset(known)
        self._remembered: dict[str, str] = {}
        self._aliases = aliases
        self._affixes = [(p, e) for p in ("", *prefixes) for e in ("", *suffixes) if p or e]
        self._sounds = hindi.by_key(self.vocabulary) if romanised else {}
        self._deletions: dict[str, str] = {}
        for word in sorted(self.vocabulary):
            if len(word) >= 5:
                for shorter in _deletions(word):
                    self._deletions.setdefault(shorter, word)

    def __call__(self, word: str) -> str:
        found = self._remembered.get(word)
        if found is None:
            found = self._aliases.get(word) or self._right(word)
            if len(self._remembered) < _MOST_REMEMBERED and len(word) < 30:
                self._remembered[word] = found
        return found

    def _right(self, word: str) -> str:
        if word in self.vocabulary or word in self._known or len(word) > 30:
            return word
        if self._sounds and len(word) >= 3 and word.isascii():
            return hindi.meant(word, self._sounds)
        for prefix, suffix in self._affixes:
            stem = word[len(prefix) : len(word) - len(suffix)]
            if len(stem) >= 3 and stem in self.vocabulary and word == prefix + stem + suffix:
                return stem
        single = re.sub(r"(.)\1", r"\1", word)
        if single in self.vocabulary:
            return single
        if len(word) < 5:
            return word
        if word in self._deletions:
            return self._deletions[word]
        for shorter in _deletions(word):
            if shorter in self.vocabulary and len(shorter) >= 5:
                return shorter
            # One letter differs, or two are swapped: both leave the same letters after one deletion each.
            candidate = self._deletions.get(shorter)
            if candidate and len(candidate) == len(word) and candidate[0] == word[0]:
                return candidate
        return word


def _deletions(word: str) -> list[str]:
    return [word[:i] + word[i + 1 :] for i in range(len(word))]
