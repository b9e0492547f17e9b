"""What `prepare` did to the data: report.json, and report.md with plots for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.clean import normalise, personal
from train.recipe import Recipe
from train.sources import LICENCES, Malformed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from transformers import PreTrainedTokenizerBase

Splits = dict[str, list[tuple[str, str, str]]]
"""Split → (question, answer, source) of each of its rows."""

TOKENISED = 20_000
"""Rows whose tokens are counted; the shares of so many are exact to half a percent."""
FATES = ("used", "not drawn", "dropped", "malformed", "source left out")
_COLOURS = ("#1b6ca8", "#9ecae1", "#d95f0e", "#a63603", "#bdbdbd")


@dataclass
class Findings:
    """What became of every row: each ends in exactly one of `FATES`."""

    recipe: Recipe
    total: int = 0
    malformed: Malformed = field(default_factory=Malformed)
    changed: Counter[str] = field(default_factory=Counter)
    by_source: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    known: tuple[str, ...] = tuple(LICENCES)

    def count(self, source: str, what: str, rows: int = 1) -> None:
        """Count rows of a source under what became of them."""
        if rows:
            self.by_source.setdefault(source, Counter())[what] += rows

    def drop(self, source: str, reason: str, question: str, answer: str) -> None:
        """Count a dropped row; the first two of a reason are kept as examples."""
        self.reasons[reason] += 1
        self.count(source, "dropped")
        self.count(source, f"dropped: {reason}")
        kept = self.examples.setdefault(reason, [])
        if len(kept) < 2:
            kept.append({"source": source, "question": _cut(question), "answer": _cut(answer)})


def write_report(
    folder: Path, findings: Findings, splits: Splits, tokenizer: PreTrainedTokenizerBase | None = None
) -> None:
    """Write report.json, report.md and their plots into `folder`."""
    rows = [row for part in splits.values() for row in part]
    lengths = {
        "question": np.array([question.count(" ") + 1 for question, _, _ in rows]),
        "answer": np.array([answer.count(" ") + 1 for _, answer, _ in rows]),
    }
    tokens = _tokens(rows, findings.recipe, tokenizer) if tokenizer else None
    report = _report(findings, splits, lengths, tokens)
    (folder / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _plots(folder, findings, lengths, tokens)
    (folder / "report.md").write_text(_markdown(report), encoding="utf-8")


def _report(
    findings: Findings, splits: Splits, lengths: dict[str, np.ndarray], tokens: dict[str, np.ndarray] | None
) -> dict[str, Any]:
    recipe = findings.recipe
    rows = [row for part in splits.values() for row in part]
    fates = {
        source: {fate: counts[fate] for fate in FATES} | {"licence": findings.licences.get(source, "")}
        for source, counts in sorted(findings.by_source.items())
    }
    report: dict[str, Any] = {
        "data": list(recipe.data),
        "revisions": findings.revisions,
        "rows": findings.total,
        "fates": {fate: sum(counts[fate] for counts in findings.by_source.values()) for fate in FATES},
        "splits": {name: len(part) for name, part in splits.items()},
        "sources": fates,
        "dropped": dict(findings.reasons.most_common()),
        "dropped_by_source": {
            source: {what.removeprefix("dropped: "): n for what, n in counts.items() if what.startswith("dropped: ")}
            for source, counts in sorted(findings.by_source.items())
            if counts["dropped"]
        },
        "dropped_examples": findings.examples,
        "malformed": dict(findings.malformed.reasons.most_common()),
        "malformed_examples": findings.malformed.examples,
        "changed": dict(findings.changed.most_common()),
        "repeated": _repeated(rows),
        "words": {name: _quantiles(values) for name, values in lengths.items()},
        "personal": dict(Counter(kind for q, a, _ in rows for kind in personal(f"{q} {a}")).most_common()),
        "samples": _samples(rows),
    }
    if tokens:
        report["tokens"] = {
            "rows": len(tokens["example"]),
            "prompt": _quantiles(tokens["prompt"]),
            "example": _quantiles(tokens["example"]),
            "max_length": recipe.max_length,
            "share_truncated": round(float((tokens["example"] > recipe.max_length).mean()), 5),
            "share_without_room_for_an_answer": round(float((tokens["prompt"] >= recipe.max_length).mean()), 5),
        }
    return report


def _repeated(rows: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Questions that stay although they are asked more than once, with other answers; all of one on the same side."""
    counts = Counter(normalise(question) for question, _, _ in rows)
    several = [(question, count) for question, count in counts.most_common() if count > 1]
    return {
        "questions_with_several_answers": len(several),
        "rows_of_them": sum(count for _, count in several),
        "most_frequent": [{"question": _cut(question), "rows": count} for question, count in several[:5]],
    }


def _samples(rows: list[tuple[str, str, str]]) -> list[dict[str, str]]:
    """Up to two rows of each source, the first that come."""
    seen, samples = Counter[str](), []
    for question, answer, source in rows:
        seen[source] += 1
        if seen[source] <= 2:
            samples.append({"source": source, "question": _cut(question), "answer": _cut(answer)})
    return sorted(samples, key=lambda sample: sample["source"])


def _tokens(
    rows: list[tuple[str, str, str]], recipe: Recipe, tokenizer: PreTrainedTokenizerBase
) -> dict[str, np.ndarray]:
    """Tokens of prompt and whole example, as training sees them, of an even sample of the rows."""
    from train.packing import texts

    step = max(1, -(-len(rows) // TOKENISED))
    pairs = [texts(question, answer, tokenizer, recipe) for question, answer, _ in rows[::step]]
    prompt, answer = (_lengths([pair[which] for pair in pairs], tokenizer) for which in (0, 1))
    return {"prompt": prompt, "example": prompt + answer}


def _lengths(batch: list[str], tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    return np.array([len(ids) for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]])


def _quantiles(values: np.ndarray) -> dict[str, float]:
    middle, high, top = np.percentile(values, (50, 95, 99))
    return {
        "mean": round(float(values.mean()), 1),
        "median": round(float(middle), 1),
        "p95": round(float(high), 1),
        "p99": round(float(top), 1),
        "most": int(values.max()),
    }


def _cut(text: str, longest: int = 300) -> str:
    return text if len(text) <= longest else text[:longest] + "…"


def _plots(
    folder: Path, findings: Findings, lengths: dict[str, np.ndarray], tokens: dict[str, np.ndarray] | None
) -> None:
    sources = sorted(findings.by_source.items(), key=lambda item: sum(item[1][fate] for fate in FATES))
    with _figure(folder / "sources.png", 1.6 + 0.4 * len(sources)) as axes:
        left = np.zeros(len(sources))
        for fate, colour in zip(FATES, _COLOURS, strict=True):
            width = np.array([counts[fate] for _, counts in sources], dtype=float)
            axes.barh([source for source, _ in sources], width, left=left, label=fate, color=colour)
            left += width
        axes.set_xlabel("rows")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.margins(x=0.04)
        axes.legend(fontsize=8)
        axes.set_title("What became of the rows, by source")
    with _figure(folder / "dropped.png", 1.6 + 0.35 * max(1, len(findings.reasons))) as axes:
        reasons = findings.reasons.most_common()[::-1] or [("nothing", 0)]
        bars = axes.barh([reason for reason, _ in reasons], [count for _, count in reasons], color=_COLOURS[2])
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        axes.margins(x=0.12)
        axes.set_xlabel("rows")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_title("Rows dropped, by reason")
    with _figure(folder / "words.png") as axes:
        _histogram(axes, lengths, "words", "Lengths in words")
    if tokens:
        with _figure(folder / "tokens.png") as axes:
            _histogram(axes, tokens, "tokens", "Lengths in tokens, prompt included")
            limit = findings.recipe.max_length
            axes.axvline(limit, color=_COLOURS[3], linestyle="--", label=f"max_length {limit:,}")
            axes.legend(fontsize=8)


def _histogram(axes: Axes, values: dict[str, np.ndarray], unit: str, title: str) -> None:
    """Lengths on a logarithmic axis: they span three orders of magnitude."""
    from matplotlib.ticker import LogLocator, NullFormatter

    lowest = min(int(value.min()) for value in values.values())
    highest = max(int(value.max()) for value in values.values())
    bins = np.unique(np.geomspace(max(1, lowest), highest + 2, 50).astype(int))
    for (name, value), colour in zip(values.items(), (_COLOURS[2], _COLOURS[0]), strict=True):
        axes.hist(value, bins=list(bins), alpha=0.6, label=f"{name} (median {np.median(value):,.0f})", color=colour)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{unit} (logarithmic)")
    axes.set_ylabel("rows")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(fontsize=8)
    axes.set_title(title)


@contextmanager
def _figure(path: Path, height: float = 3.6) -> Iterator[Axes]:
    """A plot, saved when the block ends. Draws without a display and without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    yield axes
    figure.savefig(path, dpi=120)


def _markdown(report: dict[str, Any]) -> str:
    shares = ", ".join(f"{name} {count:,}" for name, count in report["splits"].items())
    data = ", ".join(f"`{spec}`" for spec in report["data"])
    parts = [
        "# Data report",
        f"{report['rows']:,} rows of {data}; {sum(report['splits'].values()):,} used: {shares}.",
        "\n".join(f"- `{spec}` at revision `{revision}`" for spec, revision in report["revisions"].items()),
        "## Rows by source",
        "![What became of the rows, by source](sources.png)",
        _table(
            ["source", *FATES, "licence"],
            [
                [source, *(fates[fate] for fate in FATES), fates["licence"]]
                for source, fates in report["sources"].items()
            ]
            + [["**all**", *report["fates"].values(), ""]],
        ),
        "## Dropped",
        "![Rows dropped, by reason](dropped.png)",
        _dropped(report),
        "## Malformed",
        _listed(report["malformed"], report["malformed_examples"]) or "No row was malformed.",
        "## Changed by cleaning",
        _table(["what was removed or mended", "texts"], [[*item] for item in report["changed"].items()]) or "Nothing.",
        "## Repeated questions",
        _repeats(report["repeated"]),
        "## Lengths",
        "![Lengths in words](words.png)",
        _table(
            ["words", *report["words"]["answer"]],
            [[name, *quantiles.values()] for name, quantiles in report["words"].items()],
        ),
        _token_section(report.get("tokens")),
        "## Personal details",
        _table(["kind", "rows that seem to hold one"], [[*item] for item in report["personal"].items()])
        or "None found.",
        "Found by patterns, which miss some and suspect too much; nothing was removed for it.",
        "## Samples",
        "\n\n".join(
            f"**{s['source']}**  \nQ: {_escape(s['question'])}  \nA: {_escape(s['answer'])}" for s in report["samples"]
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _dropped(report: dict[str, Any]) -> str:
    sources = list(report["dropped_by_source"])
    rows = [
        [reason, count, *(report["dropped_by_source"][source].get(reason, 0) for source in sources)]
        for reason, count in report["dropped"].items()
    ]
    examples = [
        f"- {reason} ({example['source']}): {_escape(_cut(example['question'], 120))} → {_escape(_cut(example['answer'], 120))}"
        for reason, several in report["dropped_examples"].items()
        for example in several[:1]
    ]
    return (
        _table(["reason", "rows", *sources], rows) + "\n\nAn example of each:\n\n" + "\n".join(examples)
        if rows
        else "None."
    )


def _listed(counts: dict[str, int], examples: dict[str, list[str]]) -> str:
    return "\n".join(
        f"- {reason}: {count:,}, for example {_escape(examples[reason][0])}" for reason, count in counts.items()
    )


def _repeats(repeated: dict[str, Any]) -> str:
    text = (
        f"{repeated['questions_with_several_answers']:,} questions have more than one answer, in "
        f"{repeated['rows_of_them']:,} rows; all rows of one question are on the same side."
    )
    frequent = [f"- {_escape(one['question'])}: {one['rows']:,}" for one in repeated["most_frequent"]]
    return text + ("\n\n" + "\n".join(frequent) if frequent else "")


def _token_section(tokens: dict[str, Any] | None) -> str:
    if not tokens:
        return "Tokens were not counted: no tokenizer was given."
    table = _table(["tokens", *tokens["example"]], [[name, *tokens[name].values()] for name in ("prompt", "example")])
    return (
        f"![Lengths in tokens](tokens.png)\n\n{table}\n\nOf {tokens['rows']:,} rows, {tokens['share_truncated']:.1%} have more "
        f"than {tokens['max_length']:,} tokens and lose the end of their answer; "
        f"{tokens['share_without_room_for_an_answer']:.1%} have no room for any of it and are not learned from."
    )


def _table(head: list[str], rows: list[list[Any]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *([f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: str) -> str:
    """Data inside Markdown stays text."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, "\\" + mark)
    return text
