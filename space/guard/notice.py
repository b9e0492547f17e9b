"""The words above an answer: whom to call, where the visitor is, and what to do while waiting. Standard library only."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from space.guard.rules import Rules, Sign

_HELP = Path(__file__).parent / "help.toml"
_REGION = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z]{4})?[-_]([A-Za-z]{2})(?![A-Za-z])")


@cache
def directory() -> dict[str, Any]:
    """help.toml: telephone lines by country."""
    return tomllib.loads(_HELP.read_text(encoding="utf-8"))


def region(locale: str) -> str:
    """The country of a language tag or an Accept-Language header (`en-GB,en;q=0.9` is GB), or "" where it names none."""
    for tag in locale[:200].split(","):
        found = _REGION.match(tag.strip())
        if found and found[1].upper() in directory()["country"]:
            return found[1].upper()
    return ""


def notice(signs: Sequence[Sign], rules: Rules, locale: str) -> str:
    """Markdown for these signs, the first of which decides the kind. Telephone numbers are links."""
    country = directory()["country"].get(region(locale), directory()["anywhere"])
    words = rules.notices
    kind = signs[0].kind
    emergencies = [sign for sign in signs if sign.kind == "emergency"]
    names = ", ".join(dict.fromkeys(sign.name for sign in signs if sign.kind == kind))
    lines = [f"**{words[kind].format(sign=names)}**"]
    if kind in ("emergency", "self-harm", "harm"):
        urgent = emergencies or kind == "emergency"
        lines.append(words["call_now" if urgent else "call_if_danger"].format(number=_numbers(country["emergency"])))
    act = [line for sign in (emergencies or signs)[:2] for line in sign.act]
    if act:
        lines.append("\n".join(f"- {line}" for line in dict.fromkeys(act)))
    wanted = dict.fromkeys(name for sign in signs for name in sign.lines)
    found = [f"{words[name]} {_numbers(country[name])}" for name in wanted if name in country]
    if found:
        lines.append("\n".join(f"- {line}" for line in found))
    if kind == "self-harm" or "crisis" in wanted:
        lines.append(words["more_lines"].format(site="[findahelpline.com](https://findahelpline.com)"))
    if kind == "emergency":
        lines.append(words["background"] if all(s.kind == "emergency" for s in signs) else words["no_dose"])
    return "\n\n".join(lines)


def _numbers(entries: Sequence[str]) -> str:
    """`["988 (call or text)"]` as Markdown in which each number is a telephone link."""
    return ", ".join(_linked(entry) for entry in entries)


def _linked(entry: str) -> str:
    number, _, remark = entry.partition(" (")
    return f"[{number}](tel:{re.sub('[^0-9+]', '', number)})" + (f" ({remark}" if remark else "")
