"""What a message must not be left to a model for: emergencies, self-harm, harm and personal doses.

`screen` is deterministic, reads the rules in `rules/*.toml`, and needs the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from space.guard.context import Present, present
from space.guard.notice import notice
from space.guard.rules import Kind, Rules, Sign, spoken
from space.guard.text import fold

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
        signs = _signs(now, before, rules)
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


def _signs(now: str, before: Sequence[str], rules: Rules) -> list[Sign]:
    """The signs that are there in this language, the gravest kind first."""
    current = present(*rules.read(now), rules)
    if not (current.there or current.over or current.continues):
        return []
    earlier = Present()
    for message in before:
        one = present(*rules.read(message), rules)
        earlier.there |= one.there
        earlier.over |= one.over
    signs = [sign for sign in rules.signs if _there(sign, current, earlier)]
    return sorted(signs, key=lambda sign: GRAVEST_FIRST.index(sign.kind))


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
