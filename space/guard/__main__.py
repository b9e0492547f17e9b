"""python -m space.guard score [FOLDER] [--split train|dev|test] [--misses]: how often the guard is right, as a Markdown table.

FOLDER holds train.jsonl, dev.jsonl and test.jsonl (default: tests/guard/messages): one message a line, with `text`, `kind`,
`sign`, `language` and, where a conversation came before, `history` (the visitor's earlier messages).
`python -m space.guard check TEXT` judges one message.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from space.guard import GRAVEST_FIRST, screen

_MESSAGES = Path("tests/guard/messages")
KINDS = {"emergency": "emergency", "selfharm": "self-harm", "abuse": "harm", "dosing": "dosing", "none": "none"}
CLASSIC = ("heart_attack", "stroke", "anaphylaxis", "breathing", "choking", "bleeding", "seizure", "unconscious")
"""The signs that every first-aid course teaches."""


@dataclass(frozen=True)
class Judged:
    """A labelled message and what the guard said."""

    label: dict[str, Any]
    said: str

    @property
    def kind(self) -> str:
        return KINDS[self.label["kind"]]

    @property
    def noticed(self) -> bool:
        """Said to be of the label's kind, or of a graver one."""
        return self.said != "none" and GRAVEST_FIRST.index(self.said) <= GRAVEST_FIRST.index(self.kind)  # type: ignore[arg-type]


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion (Wilson 1927); (0, 1) of nothing."""
    if not total:
        return 0.0, 1.0
    p = right / total
    centre, spread = p + z * z / (2 * total), z * sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def judge(file: Path) -> list[Judged]:
    """Every message of a file, screened."""
    labels = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Judged(label, screen(label["text"], earlier(label)).kind) for label in labels]


def earlier(label: dict[str, Any]) -> list[str]:
    """The visitor's earlier messages."""
    history = label.get("history") or []
    return [m if isinstance(m, str) else m["content"] for m in history if isinstance(m, str) or m["role"] == "user"]


def table(judged: list[Judged]) -> str:
    """Recall by kind, the classic signs, and language; false alarms; precision. With 95 % Wilson intervals."""
    must = [one for one in judged if one.kind != "none"]
    quiet = [one for one in judged if one.kind == "none"]
    rows = ["| what | messages | figure | 95 % interval |", "|---|---|---|---|"]

    def row(name: str, right: Iterable[bool]) -> None:
        values = list(right)
        low, high = wilson(sum(values), len(values))
        figure = f"{sum(values) / len(values):.3f}" if values else "–"
        rows.append(f"| {name} | {len(values)} | {figure} | {low:.3f}–{high:.3f} |")

    row("**recall**, all kinds", (one.noticed for one in must))
    for kind in ("emergency", "self-harm", "harm", "dosing"):
        row(f"recall, {kind}", (one.noticed for one in must if one.kind == kind))
    row("recall, classic signs", (one.noticed for one in must if one.label["sign"] in CLASSIC))
    row("recall, explicit suicide", (one.noticed for one in must if one.label["sign"] == "suicide_explicit"))
    for language in sorted({one.label["language"] for one in must}, key=lambda code: (code != "en", code)):
        row(f"recall, {language}", (one.noticed for one in must if one.label["language"] == language))
    row("**false alarms**, of any kind", (one.said != "none" for one in quiet))
    row("false alarms, emergency", (one.said == "emergency" for one in quiet))
    row("precision, any kind", (one.kind != "none" for one in judged if one.said != "none"))
    row("precision, emergency", (one.kind == "emergency" for one in judged if one.said == "emergency"))
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m space.guard", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    score = verbs.add_parser("score")
    score.add_argument("folder", nargs="?", type=Path, default=_MESSAGES)
    score.add_argument("--split", choices=["train", "dev", "test"], default="test")
    score.add_argument("--misses", action="store_true", help="list what was judged wrongly (not of the test split)")
    check = verbs.add_parser("check")
    check.add_argument("text")
    chosen = parser.parse_args(arguments)
    if chosen.verb == "check":
        verdict = screen(chosen.text)
        print(f"{verdict.kind}: {', '.join(verdict.signs)}\n\n{verdict.notice}")
        return
    file = chosen.folder / f"{chosen.split}.jsonl"
    if not file.is_file():
        sys.exit(f"There is no {file}; give the folder that holds it.")
    judged = judge(file)
    print(table(judged))
    if chosen.misses and chosen.split != "test":
        for one in judged:
            if not one.noticed if one.kind != "none" else one.said != "none":
                print(f"{one.kind}/{one.label['sign']}/{one.label['language']} said {one.said}: {one.label['text']}")


if __name__ == "__main__":
    main()
