"""How long the guard takes to read a message of 4,000 characters, and one of 100,000; and how many questions of MedQuAD,
all of which ask for information, set it off.

    python -m bench.guard

Two kinds of text: answers of ../shared/data/medquad_dev.jsonl, which are medical prose, and the labelled English messages
of tests/guard one after another, where nearly every word is a cue. The peer does far less: one search of Python's `re` for
any of the words that the English rules know, over the same folded text. Each text is read once, as a visitor's would be.
Prints a table and writes it to bench/RESULTS.md.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import quantiles

from bench.results import write
from space.guard import screen
from space.guard.rules import languages
from space.guard.text import fold

ROOT = Path(__file__).parent.parent
PROSE = ROOT.parent / "shared" / "data" / "medquad_dev.jsonl"
MESSAGES = ROOT / "tests" / "guard" / "messages" / "train.jsonl"
LENGTH, LONG, TEXTS = 4_000, 100_000, 400


def rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def texts(pieces: list[str], count: int, length: int) -> list[str]:
    """`count` texts of `length` characters, of pieces in an order that chance gives."""
    rng = random.Random(0)
    made = []
    for _ in range(count):
        text = ""
        while len(text) < length:
            text += rng.choice(pieces) + "\n"
        made.append(text[:length])
    return made


def milliseconds(read: Callable[[str], object], every: Iterable[str]) -> list[float]:
    taken = []
    for text in every:
        start = time.perf_counter()
        read(text)
        taken.append((time.perf_counter() - start) * 1000)
    return taken


def main() -> None:
    kinds = {
        "prose": [row["output"] for row in rows(PROSE)],
        "messages": [row["text"] for row in rows(MESSAGES) if row["language"] == "en"],
    }
    words = sorted(languages()[0].speller.vocabulary, key=len, reverse=True)
    alternation = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b")
    readers: dict[str, Callable[[str], object]] = {
        "guard": screen,
        "`re`, one alternation": lambda text: alternation.findall(fold(text)),
    }
    lines = [
        f"| text | reader | {LENGTH:,} characters: p50, ms | p99, ms | {LONG:,} characters, ms |",
        "|---|---|---|---|---|",
    ]
    for kind, pieces in kinds.items():
        short, (long,) = texts(pieces, TEXTS, LENGTH), texts(pieces, 1, LONG)
        for name, read in readers.items():
            read(short[0])
            cuts = quantiles(milliseconds(read, short), n=100)
            lines.append(
                f"| {kind} | {name} | {cuts[49]:.1f} | {cuts[98]:.1f} | {min(milliseconds(read, [long] * 3)):.0f} |"
            )
    questions = [row["input"] for row in rows(PROSE)]
    alarms = sum(screen(question).kind != "none" for question in questions)
    text = (
        f"{alarms} of the {len(questions):,} questions of MedQuAD set it off.\n\n"
        f"{TEXTS} texts of each kind; the target is a p99 of 5 ms at {LENGTH:,} characters.\n\n" + "\n".join(lines)
    )
    print(text)
    write("guard", text, ["numpy"])


if __name__ == "__main__":
    main()
