"""How good the model is: loss and perplexity with their intervals, and what a visitor would read.

    run/data, run/adapter, run/merged → metrics.json

Losses are token-weighted negative log-likelihoods on train subset, validation and test, of base, adapter and merged model, on
the answers alone and on whole sequences (what the original project reports), by source on the test split. Sample answers
come through `space.engine`, from the merged model, so they are what a visitor gets.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from train.base import load_base
from train.loss import answer_loss
from train.packing import Encoded, collate, encode
from train.recipe import Recipe
from train.run import MADE_FROM, Run, fingerprint
from train.statistics import difference, interval

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTIONS = (
    "What are the symptoms of diabetes?",
    "How is high blood pressure treated?",
    "What is vitamin D deficiency?",
    "When should I see a doctor about a headache?",
)
"""Asked of every model, always the same ones, greedily."""


class Examples:
    """The examples of a split one by one, in order, or `most` of them by the recipe's seed."""

    def __init__(self, file: Path, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, most: int = 0) -> None:
        import pyarrow.parquet as parquet

        rows = parquet.read_table(file).to_pylist()
        if 0 < most < len(rows):
            chosen = np.random.default_rng(recipe.seed).choice(len(rows), most, replace=False)
            rows = [rows[index] for index in sorted(chosen)]
        self.encoded: list[Encoded] = []
        self.sources: list[str] = []
        for row in rows:
            if (example := encode(row["question"], row["answer"], tokenizer, recipe)) is not None:
                self.encoded.append(example)
                self.sources.append(row["source"])


def losses(model: Any, examples: Examples) -> tuple[list[float], list[int]]:
    """Summed negative log-likelihood (nats) and number of learned tokens of each example."""
    sums, tokens = [], []
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        for index, example in enumerate(examples.encoded):
            batch = collate(examples.encoded, [[index]], len(example))
            loss, count = answer_loss(model, {name: tensor.to(device) for name, tensor in batch.items()})
            sums.append(loss.item())
            tokens.append(count)
    return sums, tokens


def evaluate(run: Run) -> None:
    """Score base, adapter and merged model and record it in metrics.json."""
    run.need(run.data, "prepare")
    run.need(run.adapter, "finetune")
    run.need(run.merged, "merge")
    mark = fingerprint(run.data / "test.parquet", (run.merged / MADE_FROM).read_text(), run.recipe.eval_examples)
    if run.recorded("evaluation").get("made_from") == mark:
        print(f"evaluate: {run.metrics} is up to date.")
        return
    scores: dict[str, Any] = {}
    raw: dict[tuple[str, str, str], list[float]] = {}
    for name, recipe, adapter in _models(run):
        model, tokenizer = load_base(recipe, "cuda" if torch.cuda.is_available() else "cpu")
        if adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, run.adapter)
        scores[name] = {}
        for split in ("train", "validation", "test"):
            most = run.recipe.eval_examples if split != "test" else 0
            for kind in ("answer", "sequence"):
                examples = Examples(run.data / f"{split}.parquet", tokenizer, replace(run.recipe, loss=kind), most=most)
                sums, tokens = losses(model, examples)
                raw[name, split, kind] = sums
                found = interval(sums, tokens)
                if split == "test" and kind == "answer":
                    found["by_source"] = _by_source(sums, tokens, examples.sources)
                if name != "base":
                    found["change"] = difference(raw["base", split, kind], sums, tokens)
                scores[name].setdefault(split, {})[kind] = found
        print(f"evaluate: {name}: test loss on answers {scores[name]['test']['answer']['loss']}", flush=True)
    run.record(evaluation={"made_from": mark, "scores": scores, "samples": _samples(run)})


def _models(run: Run) -> list[tuple[str, Recipe, bool]]:
    """What is scored: the base as it was trained on, the adapter on it, and the merged model as it is published."""
    merged = replace(run.recipe, base=str(run.merged), base_revision="", bits=16)
    return [("base", run.recipe, False), ("adapter", run.recipe, True), ("merged", merged, False)]


def _by_source(sums: Sequence[float], tokens: Sequence[int], sources: Sequence[str]) -> dict[str, Any]:
    grouped: dict[str, tuple[list[float], list[int]]] = defaultdict(lambda: ([], []))
    for loss, count, source in zip(sums, tokens, sources, strict=True):
        grouped[source][0].append(loss)
        grouped[source][1].append(count)
    return {source: interval(*grouped[source]) for source in sorted(grouped)}


def _samples(run: Run) -> list[dict[str, str]]:
    from space.engine import load
    from space.prompt import conversation
    from space.settings import Settings

    engine = load(Settings(model_id=str(run.merged.resolve())))
    sampling = engine.sampling.changed({"temperature": 0.0, "max_new_tokens": min(256, engine.context // 2)})
    return [
        {
            "question": question,
            "answer": "".join(engine.stream(conversation([], question), sampling, threading.Event())),
        }
        for question in QUESTIONS
    ]
