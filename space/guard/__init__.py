"""What a message must not be left to a model for: emergencies, self-harm, harm and personal doses.

`screen` is deterministic, reads the rules in `rules/*.toml`, and needs the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from space.guard.classifier import KEEP, RAISE, SURE, Opinion, classifier, features
from space.guard.context import Present, present
from space.guard.notice import notice
from space.guard.pattern import Hit
from space.guard.rules import Kind, Rules, Sign, spoken
from space.guard.text import Passage, fold

__all__ = ["Kind", "Verdict", "screen"]

GRAVEST_FIRST: tuple[Kind, ...] = ("self-harm", "emergency", "harm", "dosing")
_REMEMBERED = 6
"""Earlier messages of the visitor that are read with this one."""


@dataclass(frozen=True)
class Verdict:
    """What `screen` found. `none` where there is nothing."""

    kind: Kind = "none"
    signs: tuple[str, ...] = ()
    """The identifiers of the signs in the rule files."""
    language: str = "en"
    notice: str = ""
    """What to show at once, above any answer, as Markdown."""
    may_answer: bool = True
    """Whether the model may write after the notice."""


def screen(text: str, history: Iterable[str] = (), locale: str = "") -> Verdict:
    """Judges a message. `history` holds the visitor's earlier messages, oldest first: symptoms told in turn add up.

    `locale` is a language tag or an Accept-Language header; it chooses the telephone numbers. Never raises, and takes
    time linear in the length.
    """
    now = fold(text)
    before = [fold(earlier) for earlier in list(history)[-_REMEMBERED:]]
    best: tuple[Rules, list[Sign]] | None = None
    for rules in spoken("\n".join((now, *before[-2:]))):
        signs = _reading(now, before, rules).judged()
        if signs and (best is None or _rank(signs) < _rank(best[1])):
            best = rules, signs
    if best is None:
        return Verdict()
    rules, signs = best
    kind = signs[0].kind
    return Verdict(
        kind=kind,
        signs=tuple(sign.id for sign in signs),
        language=rules.language,
        notice=notice(signs, rules, locale),
        may_answer=all(sign.kind == "emergency" for sign in signs),
    )


def _rank(signs: Sequence[Sign]) -> int:
    return GRAVEST_FIRST.index(signs[0].kind)


@dataclass(frozen=True)
class Reading:
    """A conversation as the rules of one language read it."""

    rules: Rules
    text: Passage
    hits: list[Hit]
    current: Present
    earlier: Present
    before: list[Passage]
    signs: list[Sign]
    """The gravest kind first."""

    def features(self) -> list[int]:
        """What the classifier judges it by."""
        named = {hit.concept for hit in self.hits}
        there, over = self.current.there, self.current.over
        seen = {f"named {name}" for name in named}
        seen |= {f"there {name}" for name in there} | {f"over {name}" for name in over}
        seen |= {f"earlier {name}" for name in self.earlier.there}
        seen |= {f"sign {sign.id}" for sign in self.signs} | {f"kind {sign.kind}" for sign in self.signs}
        return features(self.text, self.before, seen)

    def judged(self) -> list[Sign]:
        """The signs, after the classifier's second opinion where there is one."""
        if self.rules.language != "en" or not self.text.words:
            return self.signs
        return _reconsidered(self.signs, classifier()(self.features()), self.rules)


def read(text: str, history: Iterable[str], rules: Rules) -> Reading:
    """Reads a message, and the visitor's earlier ones, oldest first, by the rules of a language."""
    return _reading(fold(text), [fold(earlier) for earlier in list(history)[-_REMEMBERED:]], rules)


def _reading(now: str, before: Sequence[str], rules: Rules) -> Reading:
    text, hits = rules.read(now)
    current, earlier, passages = present(text, hits, rules), Present(), []
    for message in before:
        passage, found = rules.read(message)
        one = present(passage, found, rules)
        earlier.there |= one.there
        earlier.over |= one.over
        passages.append(passage)
    signs = [sign for sign in rules.signs if _there(sign, current, earlier)]
    signs.sort(key=lambda sign: GRAVEST_FIRST.index(sign.kind))
    return Reading(rules, text, hits, current, earlier, passages, signs)


def _reconsidered(signs: list[Sign], opinion: Opinion, rules: Rules) -> list[Sign]:
    """Nothing where the classifier finds none likelier than what the rules see; the general sign of its kind where it finds
    one likely that they have not seen."""
    if opinion.odds < (KEEP if signs else RAISE):
        return []
    kind = max(GRAVEST_FIRST, key=lambda kind: opinion.kinds[kind])
    if any(sign.kind == kind for sign in signs) or (signs and opinion.kinds[kind] < SURE):
        return signs
    return sorted([*signs, rules.general[kind]], key=lambda sign: GRAVEST_FIRST.index(sign.kind))


def _there(sign: Sign, current: Present, earlier: Present) -> bool:
    """Whether this message adds to the sign, or goes on about one that was there."""
    now = current.there | (current.over if sign.even_if_over else set())
    both = now | earlier.there | (earlier.over if sign.even_if_over else set())
    if sign.unless & now:
        return False
    goes_on = current.continues and sign.kind in ("emergency", "self-harm")
    return any(
        all(group & both for group in one.groups)
        and not one.without & now
        and (goes_on or any(group & now for group in one.groups))
        for one in sign.when
    )
