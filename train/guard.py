"""Trains the guard's classifier from the labelled messages, and says how it does on messages that it did not learn.

    python -m train guard

Labels are the messages' signs, so that a heart attack and a film are classes of their own; their kinds are added up. A
fifth of the later batches is left out first and scored: the earlier ones also made the rules, whose findings are inputs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from space.guard.classifier import Classifier

ROOT = Path(__file__).parent.parent
MESSAGES = ROOT / "tests" / "guard" / "messages"
_FRESH = ("fresh-4", "fresh-5", "fresh-6", "fresh-7", "fresh-8")
_GREETINGS = (
    "Doctor,",
    "Hi doctor,",
    "Hello doctor.",
    "Hi,",
    "Dear doctor,",
    "Good morning.",
    "hey",
    "Hello, I have a question.",
    "Please help.",
    "Hi there!",
    "Doc,",
)
_HIDDEN, _EPOCHS, _BATCH, _RATE, _DROPOUT = 32, 10, 128, 0.01, 0.7


@dataclass(frozen=True)
class Example:
    """A message as the network sees it."""

    buckets: list[int]
    label: str
    kind: str


def build(file: Path, seed: int) -> dict[str, float]:
    """Writes the classifier's file. Returns its scores on the fifth that a first training left out."""
    from safetensors.numpy import save_file

    from space.guard.classifier import Classifier

    rows = messages(MESSAGES / "train.jsonl")
    fresh = [row for row in rows if row.get("batch") in _FRESH]
    held = fresh[::5]
    left_out = {id(row) for row in held}
    kept = [row for row in rows if id(row) not in left_out]
    scores = score(Classifier(*train(examples(kept, taught=True), seed)), examples(held))
    tensors, kinds = train(examples(rows, taught=True), seed)
    save_file(tensors, file, metadata={"kinds": json.dumps(kinds), "inputs": inputs(rows)})
    return scores


def inputs(rows: list[dict[str, Any]]) -> str:
    """A digest of what the network is given of some of the messages: where it has changed, training is due."""
    return hashlib.sha256(json.dumps([example.buckets for example in examples(rows[::50])]).encode()).hexdigest()[:16]


def messages(file: Path) -> list[dict[str, Any]]:
    """The English messages of a file."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["language"] == "en"]


def examples(rows: list[dict[str, Any]], taught: bool = False) -> list[Example]:
    """Messages as the network sees them. `taught`: with them every second one again after a greeting, which must mean nothing,
    and, for every twentieth, a message of which nothing is known, which is none."""
    from space.guard import read
    from space.guard.__main__ import KINDS, earlier
    from space.guard.rules import languages

    english = languages()[0]

    def example(row: dict[str, Any], greeting: str = "") -> Example:
        buckets = read(greeting + row["text"], earlier(row), english).features()
        return Example(buckets, f"{row['kind']}/{row['sign']}", KINDS[row["kind"]])

    plain = [example(row) for row in rows]
    if not taught:
        return plain
    greeted = [example(row, _GREETINGS[n % len(_GREETINGS)] + " ") for n, row in enumerate(rows[::2])]
    return plain + greeted + [Example([], "none/small_talk", "none")] * (len(rows) // 20)


def train(lesson: list[Example], seed: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """The tensors of the network, and the kind of each of its labels. The same for the same seed on one machine."""
    import numpy as np
    import torch

    from space.guard.classifier import BUCKETS

    kind_of = {example.label: example.kind for example in lesson}
    labels = {label: number for number, label in enumerate(sorted(kind_of))}
    torch.manual_seed(seed)
    bag = torch.nn.EmbeddingBag(BUCKETS, _HIDDEN, mode="sum")
    torch.nn.init.normal_(bag.weight, std=0.05)
    bias, out = torch.nn.Parameter(torch.zeros(_HIDDEN)), torch.nn.Linear(_HIDDEN, len(labels))
    parameters = [bag.weight, bias, *out.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=1e-3)
    steps = _EPOCHS * -(-len(lesson) // _BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.01, steps)
    for _ in range(_EPOCHS):
        for numbers in torch.split(torch.randperm(len(lesson)), _BATCH):
            batch = [lesson[i] for i in numbers.tolist()]
            sizes = torch.tensor([len(example.buckets) for example in batch])
            buckets = torch.tensor([bucket for example in batch for bucket in example.buckets])
            weights = sizes.clamp(min=1).rsqrt().repeat_interleave(sizes)
            weights = torch.nn.functional.dropout(weights, _DROPOUT)
            hidden = torch.relu(bag(buckets, sizes.cumsum(0) - sizes, per_sample_weights=weights) + bias)
            target = torch.tensor([labels[example.label] for example in batch])
            loss = torch.nn.functional.cross_entropy(out(hidden), target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    table = bag.weight.detach().numpy()
    table[np.setdiff1d(np.arange(BUCKETS), [bucket for example in lesson for bucket in example.buckets])] = 0
    scale = np.abs(table).max(axis=0) / 127
    tensors = {
        "table": np.round(table / scale).astype(np.int8),
        "scale": scale,
        "bias": bias.detach().numpy(),
        "out": out.weight.detach().numpy(),
        "out_bias": out.bias.detach().numpy(),
    }
    return tensors, [kind_of[label] for label in labels]


def score(classifier: Classifier, asked: list[Example]) -> dict[str, float]:
    """Recall where two in a hundred of the messages that must not fire do, and the area under the ROC curve."""
    import numpy as np

    odds = np.array([classifier(example.buckets).odds for example in asked])
    must = np.array([example.kind != "none" for example in asked])
    quiet = np.sort(odds[~must])
    threshold = quiet[-int(0.02 * len(quiet)) - 1]
    area = np.searchsorted(quiet, odds[must]).mean() / len(quiet)
    return {
        "messages": len(asked),
        "recall at 2 % false alarms": round(float((odds[must] > threshold).mean()), 3),
        "area under the curve": round(float(area), 3),
    }
