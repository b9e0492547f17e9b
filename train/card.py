"""The model card: recipe and metrics in, Markdown out. Pure but for `write`; every figure comes from metrics.json."""

from __future__ import annotations

from typing import Any

import yaml

from train.recipe import Recipe
from train.run import Run, whole

_LIMITS = """Educational only. Not a substitute for professional medical advice: it can be wrong, outdated or incomplete and sound just as
sure. Not for emergencies, diagnosis, prescribing or doses, nor for decisions about anybody in particular. In an emergency call the local
emergency number. English only; it has not been evaluated by clinicians."""


def card(recipe: Recipe, metrics: dict[str, Any]) -> str:
    """The card of a run: front matter with a model-index, then what a reader has to know."""
    evaluation, training, merge = metrics["evaluation"], metrics["training"], metrics["merge"]
    scores = evaluation["scores"]
    front = yaml.safe_dump(_front(recipe, scores), sort_keys=False, allow_unicode=True)
    rows = "\n".join(
        f"| {kind} | {split} | {_figure(scores['base'][split][kind])} | {_figure(scores['merged'][split][kind])} "
        f"| {_figure(scores['merged'][split][kind]['change'])} |"
        for kind in ("answer", "sequence")
        for split in ("train", "validation", "test")
    )
    ways = "\n".join(f"- {way}: {_figure(found)}" for way, found in merge["validation"].items())
    samples = "\n\n".join(
        f"**{sample['question']}**\n\n{_quoted(sample['answer'])}" for sample in evaluation["samples"]
    )
    return f"""---
{front}---

# {recipe.name}

`{recipe.base}` fine-tuned to answer health questions, with LoRA on {_bits(recipe.bits)} weights.

{_LIMITS}

## Scores

Negative log-likelihood a token in nats, token-weighted, with its 95 % interval over examples; lower is better. "Change" is paired on the
same examples. Measured on the merged model, as published.

| loss on | split | base | this model | change |
|---|---|---|---|---|
{rows}

## How it was made

Data: {", ".join(f"`{data}`" for data in recipe.data)}. {training["examples"]:,} training examples in {training["rows"]:,} rows of
{recipe.max_length} tokens, {training["tokens"]:,} tokens; {training["dropped"]:,} examples had no room for an answer. {training["steps"]:,} steps of
{recipe.batch_size} × {recipe.accumulation} rows, learning rate {recipe.learning_rate:g}, rank {recipe.lora_r}, alpha {recipe.lora_alpha}, on
{", ".join(recipe.lora_modules)}: {training["trainable_parameters"]:,} parameters, {training["seconds"]:,} seconds on {training["device"]}. Seed {recipe.seed}.

Merged on the {merge["kept"]}, which scored better on validation answers:

{ways}

## Sample answers

Greedy, through the same engine that serves the page. Not chosen.

{samples}
"""


def write(run: Run) -> None:
    """Make the run's README.md, and put a copy beside the merged weights. Raises `TrainError` for missing metrics."""
    run.need(run.merged, "merge")
    run.need(run.metrics, "evaluate")
    metrics = run.recorded()
    for name, stage in (("training", "finetune"), ("merge", "merge"), ("evaluation", "evaluate")):
        if name not in metrics:
            run.need(run.folder / f"{name} of metrics.json", stage)
    text = card(run.recipe, metrics)
    for file in (run.folder / "README.md", run.merged / "README.md"):
        with whole(file) as path:
            path.write_text(text, encoding="utf-8")


def _front(recipe: Recipe, scores: dict[str, Any]) -> dict[str, Any]:
    gemma = "gemma" in recipe.base.lower()
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": f"test split, {kind} tokens", "type": recipe.data[0].partition(":")[0]},
            "metrics": [{"type": "perplexity", "value": scores["merged"]["test"][kind]["perplexity"]}],
        }
        for kind in ("answer", "sequence")
    ]
    return {
        "license": "gemma" if gemma else "mit",
        "base_model": recipe.base,
        "datasets": [data.partition(":")[0] for data in recipe.data],
        "language": "en",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["medical", "question-answering", "lora"],
        "model-index": [{"name": recipe.name, "results": results}],
    }


def _figure(found: dict[str, Any]) -> str:
    if found["loss"] is None:
        return "–"
    low, high = found["interval"]
    return f"{found['loss']:.4f} ({low:.4f} to {high:.4f})"


def _bits(bits: int) -> str:
    return {4: "4-bit NF4 (double quantisation)", 16: "16-bit", 32: "32-bit"}[bits]


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.strip().splitlines())
