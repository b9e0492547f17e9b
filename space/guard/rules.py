"""The rule files, one a language, checked and compiled once, each with a list of real words beside it. Standard library only.

What a file holds is explained at the top of `rules/en.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from space.guard.pattern import Hit, Matcher, Phrase, phrases
from space.guard.text import Grammar, Passage, Speller, fold, passage, tokens

_LETTERS = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0900-\u0963])*")
_ASCII_LETTERS = re.compile(r"[a-z]+")
FOLDER = Path(__file__).parent / "rules"
Kind = Literal["emergency", "self-harm", "harm", "dosing", "none"]
CUES = (
    "negation",
    "no_negation",
    "past",
    "now",
    "over",
    "aside",
    "learning",
    "learning_after",
    "hypothetical",
    "fiction",
    "risk",
    "idiom",
    "asked",
    "thing",
    "continuation",
)
"""The [context] a file may define; see `space.guard.context`."""


@dataclass(frozen=True)
class Combination:
    """Is there when each group has a concept that is there, and none of `without` is."""

    groups: tuple[frozenset[str], ...]
    without: frozenset[str]

    @classmethod
    def read(cls, line: str) -> Combination:
        """`"a + b|c - d"`: a, and b or c, without d."""
        positive, *without = line.split(" - ")
        return cls(
            tuple(frozenset(group.split("|")) for group in positive.split(" + ")),
            frozenset(name for part in without for name in part.split("|")),
        )

    def concepts(self) -> frozenset[str]:
        return self.without.union(*self.groups)


@dataclass(frozen=True)
class Sign:
    """One thing to notice. It is there when one of its combinations is, and nothing of `unless`."""

    id: str
    name: str
    kind: Kind
    when: tuple[Combination, ...]
    unless: frozenset[str]
    even_if_over: bool
    act: tuple[str, ...]
    """What to do while waiting, where first-aid bodies agree."""
    lines: tuple[str, ...]
    """Which further telephone lines help, by their names in help.toml."""
    sources: tuple[str, ...]
    general: bool
    """Whether it stands for what only the classifier noticed of its kind."""


@dataclass(frozen=True)
class Rules:
    """A language's rules."""

    language: str
    right_to_left: bool
    apostrophe: str
    signs: tuple[Sign, ...]
    notices: dict[str, str]
    matcher: Matcher
    speller: Speller
    grammar: Grammar
    persons: frozenset[str]
    generic: frozenset[str]
    """Words after which a person is nobody in particular."""
    verbs: frozenset[str]
    common: frozenset[str]
    telling: frozenset[str]
    """Words that say that a message is in this language."""
    letters: re.Pattern[str] | None
    """Letters that say so by themselves."""
    pointers: frozenset[str]
    """Words that point to what is there: "is this a stroke" is no question in general."""
    topics: frozenset[str]
    """Words that name an illness rather than say that somebody has it."""
    firm: frozenset[str]
    """Concepts that a question's form does not weaken: "how can I kill myself" is no lesson."""
    requested: frozenset[str]
    """Concepts that are questions by nature: "is it OK if I take two"."""
    general: Mapping[Kind, Sign]
    """For each kind the sign that stands for what only the classifier noticed."""

    def read(self, folded: str) -> tuple[Passage, list[Hit]]:
        """A folded message as a passage, and the phrases of this language in it."""
        text = passage(tokens(folded, self.apostrophe), self.speller, self.grammar)
        return text, self.matcher.hits(text)


def spoken(folded: str) -> tuple[Rules, ...]:
    """The languages worth reading a message in: English, and each of which it has a telling word or letter. Not
    English where another has two such words and more of them: "heart attack" in a German sentence is German."""
    plain = folded.isascii()
    words = (_ASCII_LETTERS if plain else _LETTERS).findall(folded)
    present = set(words)
    english, *others = languages()
    told = [
        (sum(word in rules.telling for word in words), rules)
        for rules in others
        if not rules.telling.isdisjoint(present) or (not plain and rules.letters and rules.letters.search(folded))
    ]
    if not told:
        return (english,)
    most = max(count for count, _ in told)
    # Not one that has few of them by chance beside another ("se" in Hindi is no Spanish).
    likely = tuple(rules for count, rules in told if 2 * count >= most or not count)
    if most >= 2 and most > sum(word in english.telling for word in words):
        return likely
    return (english, *likely)


@cache
def languages() -> tuple[Rules, ...]:
    """All rule files, English first."""
    files = sorted(FOLDER.glob("*.toml"), key=lambda file: (file.stem != "en", file.stem))
    english, *others = (load(file) for file in files)
    # A word that English shares tells nothing ("me", "no", "die").
    shared = frozenset().union(*(rules.common | rules.telling for rules in others))
    return replace(english, telling=english.telling - shared), *others


def load(file: Path) -> Rules:
    """A rule file, compiled. Raises `ValueError` naming the file and the entry where one cannot be."""
    try:
        return _compiled(tomllib.loads(file.read_text(encoding="utf-8")), _real(file.with_suffix(".words")))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file.name}: {error}") from error


def _real(file: Path) -> list[str]:
    """The words of the language that are no misspelling of another; none where there is no list."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [word for line in lines if not line.startswith("#") for word in line.split()]


def _compiled(data: dict[str, Any], real: Collection[str]) -> Rules:
    aliases = data.get("aliases", {})
    grammar = {name: _words(text, {} if name == "telling" else aliases) for name, text in data["grammar"].items()}
    lists = {name: _words(text, aliases) for name, text in data["words"].items()} | {"person": grammar["persons"]}
    unknown = data["context"].keys() - set(CUES)
    if unknown:
        raise ValueError(f"[context] has {sorted(unknown)}, but only {', '.join(CUES)} mean something")
    everything = [
        phrase
        for table, mark in ((data["context"], "_"), (data["concepts"], ""))
        for concept, texts in table.items()
        for text in texts
        for phrase in phrases(mark + concept, _spelled(text, data.get("apostrophe", ""), aliases), lists)
    ]
    signs = tuple(_sign(entry, data["concepts"]) for entry in data["signs"])
    named = frozenset().union(*(sign.unless.union(*(c.concepts() for c in sign.when)) for sign in signs))
    if idle := data["concepts"].keys() - named - {"symptom"}:
        raise ValueError(f"no sign uses the concepts {sorted(idle)}")
    vocabulary = {word for phrase in everything for word in phrase.words()}
    if mute := [word for word in sorted(vocabulary) if tokens(word) != [word] and word not in ("^", "?")]:
        raise ValueError(f"no message can hold the words {mute}")
    # Not the Hindi words in Latin letters that tell the language: they are to become words of the rules.
    vocabulary |= {w for name, ws in grammar.items() if name != "telling" or not data.get("romanised") for w in ws}
    return Rules(
        language=data["language"],
        right_to_left=data.get("right_to_left", False),
        apostrophe=data.get("apostrophe", ""),
        signs=signs,
        notices=data["notices"],
        matcher=Matcher(everything),
        speller=Speller(
            vocabulary,
            [*real, *fold(data.get("real_words", "")).split()],
            aliases,
            grammar.get("prefixes", ()),
            grammar.get("suffixes", ()),
            data.get("romanised", False),
        ),
        grammar=Grammar(
            splitters=frozenset(grammar["splitters"]),
            links=frozenset(grammar.get("links", ())),
            subjects=frozenset(grammar["subjects"]),
            joiners=frozenset(grammar["joiners"]) | _governing(everything, grammar["objects"]),
        ),
        persons=frozenset(grammar["persons"]),
        generic=frozenset(grammar.get("generic", ())),
        verbs=frozenset(grammar["verbs"]),
        common=frozenset(grammar.get("common", ())),
        telling=frozenset(grammar.get("telling") or {word for words in grammar.values() for word in words}),
        letters=re.compile(data["letters"]) if "letters" in data else None,
        pointers=frozenset(grammar.get("pointers", ())),
        topics=frozenset(grammar.get("topics", ())),
        firm=_concepts(signs, "self-harm"),
        requested=_concepts(signs, "dosing"),
        general={sign.kind: sign for sign in signs if sign.general},
    )


def _concepts(signs: Iterable[Sign], kind: Kind) -> frozenset[str]:
    return frozenset().union(*(one.concepts() for sign in signs if sign.kind == kind for one in sign.when))


def _governing(everything: Iterable[Phrase], objects: Collection[str]) -> frozenset[str]:
    """The words that a phrase goes on from with any word, or with one that can be an object ("end my life", "end it all").

    Before those "my" and "it" begin no new clause, or the phrase could never be found.
    """
    return frozenset(
        word
        for phrase in everything
        for (_, before), (gap, after) in pairwise(phrase.parts)
        if isinstance(before, frozenset) and isinstance(after, frozenset) and (gap or not after.isdisjoint(objects))
        for word in before
    )


def _spelled(text: str, apostrophe: str, aliases: Mapping[str, str]) -> str:
    """A phrase in the spelling that messages are brought to ("one" as "1"). Its own marks and list names stay."""
    folded = fold(text).replace("'", apostrophe)
    return re.sub(r"<[^>]*>|[^\s|?]+", lambda found: aliases.get(found[0], found[0]), folded)


def _words(text: str, aliases: Mapping[str, str]) -> list[str]:
    return [aliases.get(word, word) for word in fold(text).split()]


def _sign(entry: dict[str, Any], concepts: dict[str, Any]) -> Sign:
    kind = entry.get("kind", "emergency")
    if kind not in get_args(Kind):
        raise ValueError(f"{entry['id']}: kind is {kind!r} but must be one of {', '.join(get_args(Kind))}")
    when = tuple(Combination.read(line) for line in entry["when"])
    unless = frozenset(entry.get("unless", ()))
    if unknown := unless.union(*(c.concepts() for c in when)) - concepts.keys():
        raise ValueError(f"{entry['id']}: {sorted(unknown)} is not in [concepts]")
    if not entry.get("sources"):
        raise ValueError(f"{entry['id']}: no source")
    return Sign(
        id=entry["id"],
        name=entry["name"],
        kind=kind,
        when=when,
        unless=unless,
        even_if_over=entry.get("even_if_over", False),
        act=tuple(entry.get("act", ())),
        lines=tuple(entry.get("lines", ())),
        sources=tuple(entry["sources"]),
        general=entry.get("general", False),
    )
