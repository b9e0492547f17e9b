"""How good the model is, beside its base: losses, multiple choice, and what a visitor would read.

    run/data, run/adapter, run/merged → run/evaluation/<model>.json → metrics.json

Losses are token-weighted negative log-likelihoods on train subset, validation subset and test, on the answers alone and on
whole sequences (what the original project reports), by source on the test split. Each change is taken on the same
examples and against the model that the scored one was made from: the merged model's against the base in 16 bits, as both
are published, the adapter's against the quantised base that it was trained on. Written answers come through
`space.engine`, so they are what a visitor gets.

A model's scores are kept as soon as they are there, example by example: an evaluation that was interrupted goes on with
the next model.
"""

from __future__ import annotations

import gc
import json
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from train import benchmarks
from train.base import load_base
from train.benchmarks import Question
from train.errors import TrainError
from train.likelihood import token_losses
from train.packing import Encoded, encode
from train.recipe import Recipe
from train.run import MADE_FROM, Run, fingerprint, whole
from train.statistics import average, difference, interval, proportion

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "validation", "test")
KINDS = ("answer", "sequence")
QUESTIONS = (
    "What are the symptoms of diabetes?",
    "How is high blood pressure treated?",
    "What is vitamin D deficiency?",
    "When should I see a doctor about a headache?",
)
"""Asked of base and merged model, always the same ones, greedily."""
LONGEST_ANSWER = 256
"""Tokens of a written answer."""

Raw = dict[str, Any]
"""A model's scores example by example: losses[split][kind] with tokens[split][kind], choices[benchmark], answers."""


class Examples:
    """The examples of a split one by one, in order, or `most` of them by the recipe's seed."""

    def __init__(self, file: Path, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, most: int = 0) -> None:
        self.encoded: list[Encoded] = []
        self.sources: list[str] = []
        for row in _rows(file, recipe, most):
            example = encode(row["question"], row["answer"], tokenizer, replace(recipe, loss="answer"))
            if example is not None:
                self.encoded.append(example)
                self.sources.append(row["source"])


def losses(model: Any, examples: Examples) -> dict[str, tuple[list[float], list[int]]]:
    """For "answer" and "sequence": summed negative log-likelihood (nats) and number of tokens of each example."""
    # All but the first token are scored, so that one pass serves both kinds.
    found = token_losses(model, [Encoded(example.ids, 1) for example in examples.encoded])
    parts = {
        "answer": [part[example.learned_from - 1 :] for part, example in zip(found, examples.encoded, strict=True)],
        "sequence": found,
    }
    return {
        kind: ([float(part.sum(dtype=np.float64)) for part in several], [len(part) for part in several])
        for kind, several in parts.items()
    }


def evaluate(run: Run) -> None:
    """Score base, adapter and merged model and record it in metrics.json."""
    for folder, stage in ((run.data, "prepare"), (run.adapter, "finetune"), (run.merged, "merge")):
        run.need(folder, stage)
    models = _models(run)
    mark = _mark(models)
    if run.recorded("evaluation").get("made_from") == mark:
        print(f"evaluate: {run.metrics} is up to date.")
        return
    questions = {name: benchmarks.drawn(several, run.recipe) for name, several in benchmarks.load(run.recipe).items()}
    raw = {model.name: _scored(run, model, questions) for model in models}
    found = summary(raw, {model.name: model.before for model in models if model.before})
    print(f"evaluate: {found['verdict']}", flush=True)
    run.record(evaluation={"made_from": mark, **found})


def made_from(run: Run) -> str:
    """The fingerprint of what the run's scores have to be made from."""
    return _mark(_models(run))


def _mark(models: list[_Model]) -> str:
    return fingerprint([model.mark for model in models], QUESTIONS)


# ---- what is scored -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Model:
    """A model to score: how it is loaded, what it is compared with, and whether it also has to answer questions."""

    name: str
    recipe: Recipe
    before: str
    answers: bool
    adapter: bool
    mark: str


def _models(run: Run) -> list[_Model]:
    recipe, data = run.recipe, fingerprint(*(run.data / f"{split}.parquet" for split in SPLITS))
    # How it is asked and how much; the data themselves are in `data`.
    asked = {name: getattr(recipe, name) for name in ("prompt", "max_length", "eval_examples", "seed")}
    extra = {name: getattr(recipe, name) for name in ("benchmarks", "benchmark_questions", "rouge_examples")}
    published = 16 if recipe.bits == 4 else recipe.bits

    def model(name: str, bits: Any, before: str = "", made: Path | None = None, answers: bool = False) -> _Model:
        loaded = replace(recipe, bits=bits)
        if made == run.merged:
            loaded = replace(loaded, base=str(made), base_revision="")
        parts = [data, asked, bits, recipe.base, recipe.base_revision]
        parts += [extra, *benchmarks.files(recipe)] if answers else []
        mark = fingerprint(*parts, (made / MADE_FROM).read_text() if made else "")
        return _Model(name, loaded, before, answers, adapter=made == run.adapter, mark=mark)

    quantised = [model("quantised base", 4)] if recipe.bits == 4 else []
    return [
        model("base", published, answers=True),
        *quantised,
        model("adapter", recipe.bits, "quantised base" if quantised else "base", run.adapter),
        model("merged", published, "base", run.merged, answers=True),
    ]


def _scored(run: Run, model: _Model, questions: Mapping[str, Sequence[Question]]) -> Raw:
    file = run.folder / "evaluation" / f"{model.name.replace(' ', '-')}.json"
    known: Raw = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if known.get("made_from") == model.mark:
        return known
    raw: Raw = {"made_from": model.mark, **_measured(run, model, questions if model.answers else {})}
    if model.answers:
        raw |= _written(run, model)
    with whole(file) as path:
        path.write_text(json.dumps(raw, ensure_ascii=False), encoding="utf-8")
    test = interval(raw["losses"]["test"]["answer"], raw["tokens"]["test"]["answer"])
    print(f"evaluate: {model.name}: test loss on answers {test['loss']}", flush=True)
    return raw


def _measured(run: Run, model: _Model, questions: Mapping[str, Sequence[Question]]) -> Raw:
    """What needs the model's likelihoods."""
    loaded, tokenizer = load_base(model.recipe, "cuda" if torch.cuda.is_available() else "cpu")
    scored: Any = loaded
    if model.adapter:
        from peft import PeftModel

        scored = PeftModel.from_pretrained(loaded, run.adapter)
    raw: Raw = {"losses": {}, "tokens": {}}
    for split in SPLITS:
        most = run.recipe.eval_examples if split != "test" else 0
        examples = Examples(run.data / f"{split}.parquet", tokenizer, run.recipe, most)
        found = losses(scored, examples)
        raw["losses"][split] = {kind: [round(loss, 6) for loss in sums] for kind, (sums, _) in found.items()}
        raw["tokens"][split] = {kind: tokens for kind, (_, tokens) in found.items()}
        raw["sources"] = examples.sources  # of the last split, test
    raw["choices"] = {
        name: benchmarks.score(scored, tokenizer, several, run.recipe) for name, several in questions.items()
    }
    del loaded, scored
    gc.collect()
    return raw


def _written(run: Run, model: _Model) -> Raw:
    """What the model writes, through the engine that serves the page: on the fixed questions and on test questions."""
    from rouge_score.rouge_scorer import RougeScorer

    from space.engine import load
    from space.errors import ModelError
    from space.prompt import conversation
    from space.settings import Settings

    settings = replace(
        Settings.from_env(), model_id=model.recipe.base, model_revision=model.recipe.base_revision, load_in_4bit=False
    )
    try:
        engine = load(settings)
    except ModelError as error:
        raise TrainError(f"The {model.name} model cannot answer questions: {error}") from error
    longest = min(LONGEST_ANSWER, engine.context // 2)
    sampling = engine.sampling.changed({"temperature": 0.0, "max_new_tokens": longest})

    def answer(question: str) -> str:
        return "".join(engine.stream(conversation([], question), sampling, threading.Event())).strip()

    rows = _rows(run.data / "test.parquet", run.recipe, run.recipe.rouge_examples) if run.recipe.rouge_examples else []
    rouge = RougeScorer(["rougeL"], use_stemmer=True)
    return {
        "samples": [{"question": question, "answer": answer(question)} for question in QUESTIONS],
        "rouge": [round(rouge.score(row["answer"], answer(row["question"]))["rougeL"].fmeasure, 5) for row in rows],
    }


def _rows(file: Path, recipe: Recipe, most: int) -> list[dict[str, str]]:
    import pyarrow.parquet as parquet

    rows: list[dict[str, str]] = parquet.read_table(file).to_pylist()
    if 0 < most < len(rows):
        chosen = np.random.default_rng(recipe.seed).choice(len(rows), most, replace=False)
        rows = [rows[index] for index in sorted(chosen)]
    return rows


# ---- what it amounts to ---------------------------------------------------------------------------------------------


def summary(raw: Mapping[str, Raw], before: Mapping[str, str]) -> dict[str, Any]:
    """Scores with their intervals from each model's raw ones, with the change against the model named in `before`. Pure."""
    scores = {name: _scores(found, raw.get(before.get(name, ""))) for name, found in raw.items()}
    change = scores["merged"]["test"]["answer"]["change"]
    low, high = change["interval"]
    improved = high < 0
    verdict = (
        f"test loss on answers changed by {change['loss']:+.3g} nats a token from base to merged model (95 % interval "
        f"{low:+.3g} to {high:+.3g}): {'better by more than its interval' if improved else 'NOT shown to be better'}."
    )
    samples = [
        {"question": tuned["question"], "base": base["answer"], "answer": tuned["answer"]}
        for base, tuned in zip(raw["base"]["samples"], raw["merged"]["samples"], strict=True)
    ]
    return {"scores": scores, "improved": improved, "verdict": verdict, "samples": samples}


def _scores(raw: Raw, before: Raw | None) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for split, kinds in raw["losses"].items():
        scores[split] = {}
        for kind, sums in kinds.items():
            tokens = raw["tokens"][split][kind]
            scores[split][kind] = interval(sums, tokens)
            if before:
                scores[split][kind]["change"] = difference(before["losses"][split][kind], sums, tokens)
    scores["test"]["answer"]["by_source"] = _by_source(raw)
    for name, ways in raw["choices"].items():
        scores.setdefault("multiple_choice", {})[name] = found = {way: proportion(right) for way, right in ways.items()}
        for way, right in ways.items() if before else ():
            earlier = before["choices"][name][way]  # type: ignore[index]
            found[way]["change"] = average([after - was for was, after in zip(earlier, right, strict=True)])
    if raw.get("rouge"):
        scores["rouge_l"] = average(raw["rouge"])
        if before:
            scores["rouge_l"]["change"] = average(
                [after - was for was, after in zip(before["rouge"], raw["rouge"], strict=True)]
            )
    return scores


def _by_source(raw: Raw) -> dict[str, Any]:
    """The test split's loss on answers, source by source."""
    grouped: dict[str, tuple[list[float], list[int]]] = defaultdict(lambda: ([], []))
    test = zip(raw["losses"]["test"]["answer"], raw["tokens"]["test"]["answer"], raw["sources"], strict=True)
    for loss, count, source in test:
        grouped[source][0].append(loss)
        grouped[source][1].append(count)
    return {source: interval(*grouped[source]) for source in sorted(grouped)}
