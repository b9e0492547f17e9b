"""The model card: recipe and records in, Markdown out. Every figure comes from what the stages recorded."""

from __future__ import annotations

import json
import re
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from train import record
from train.benchmarks import BENCHMARKS
from train.errors import TrainError
from train.licence import GEMMA
from train.recipe import Recipe
from train.run import Run, whole

_INTENDED = """Intended for learning and for research: explaining health topics in general terms to adults, trying out what a small
model can and cannot do, and as a starting point for better ones."""

_LIMITS = """Educational only, and not a substitute for professional medical advice. It can be wrong, outdated or incomplete and sound
just as sure; what it says must be checked before anybody relies on it. Not for emergencies (call the local emergency number),
diagnosis, prescribing or doses, nor for decisions about anybody in particular. It learned from texts as they are, with their
mistakes and biases. English only. It has not been evaluated by clinicians."""

_DERIVATIVE = """This model is a derivative: its weights were modified by fine-tuning. The terms, with their use restrictions, apply to it
and to whatever is made from it."""

_LOAD = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("{base}", revision="{revision}")
model = PeftModel.from_pretrained(base, "{repository}")
tokenizer = AutoTokenizer.from_pretrained("{base}", revision="{revision}")
```"""

_KINDS = {"answer": "answers", "sequence": "whole sequences"}
_SPLITS = {"train": "train (a sample)", "validation": "validation (a sample)", "test": "test"}
_WAYS = {"plain": "likeliest option", "normalised": "likeliest option per character"}
_BITS = {4: "4-bit NF4 (double quantisation)", 16: "16-bit", 32: "32-bit"}


def card(recipe: Recipe, metrics: dict[str, Any], info: dict[str, Any], report: dict[str, Any], licence: str) -> str:
    """The card of a run, from what its stages recorded: metrics.json, training_info.json and data/report.json, and from the
    base's licence. Front matter with a model-index, then what a reader has to know."""
    evaluation = metrics["evaluation"]
    parts = [
        _front(recipe, evaluation["scores"]["merged"], licence, "transformers"),
        f"# {recipe.name}",
        f"{base_named(recipe)} fine-tuned to answer health questions, with LoRA on {_BITS[recipe.bits]} weights, and merged.",
        f"## Intended use\n\n{_INTENDED}",
        f"## Limits\n\n{_LIMITS}",
        f"## Scores\n\n{_scores(evaluation)}",
        *([f"## GGUF files\n\n{_files(metrics['gguf']['kinds'])}"] if "gguf" in metrics else []),
        f"## Data\n\n{_data(recipe, report)}",
        f"## How it was made\n\n{_method(recipe, metrics, info)}",
        f"## Sample answers\n\nGreedy, through the same engine that serves the page; not chosen.\n\n{_samples(evaluation)}",
        _terms(licence),
    ]
    return "\n\n".join(parts) + "\n"


def adapter_card(
    recipe: Recipe,
    metrics: dict[str, Any],
    info: dict[str, Any],
    report: dict[str, Any],
    licence: str,
    repository: str,
) -> str:
    """The card of the run's adapter alone, published as `repository`: what base it needs, and how the two are loaded."""
    evaluation = metrics["evaluation"]
    parts = [
        _front(recipe, evaluation["scores"]["adapter"], licence, "peft"),
        f"# {recipe.name}: the adapter",
        f"A LoRA adapter for {base_named(recipe)}, which learned to answer health questions with {_BITS[recipe.bits]} weights. "
        "It is of no use without that base.",
        f"## Load it\n\n{_LOAD.format(base=recipe.base, revision=recipe.base_revision or 'main', repository=repository)}",
        f"## Intended use\n\n{_INTENDED}",
        f"## Limits\n\n{_LIMITS}",
        f"## Scores\n\nWhat is called this model below is base and adapter merged.\n\n{_scores(evaluation)}",
        f"## Data\n\n{_data(recipe, report)}",
        f"## How it was made\n\n{_method(recipe, metrics, info)}",
        _terms(licence),
    ]
    return "\n\n".join(parts) + "\n"


def write(run: Run) -> None:
    """Make the run's README.md, and put a copy beside the merged weights. Raises `TrainError` for missing records."""
    text = card(run.recipe, *records(run), _licence(run.recipe))
    for file in (run.folder / "README.md", run.merged / "README.md"):
        with whole(file) as path:
            path.write_text(text, encoding="utf-8")


def records(run: Run) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """metrics.json, training_info.json and data/report.json. Raises `TrainError` where a stage has not left its part."""
    run.need(run.merged, "merge")
    run.need(run.metrics, "evaluate")
    metrics = run.recorded()
    for name, stage in (("training", "finetune"), ("merge", "merge"), ("evaluation", "evaluate")):
        if name not in metrics:
            run.need(run.folder / f"{name} of metrics.json", stage)
    report = json.loads(run.need(run.data / "report.json", "prepare").read_text(encoding="utf-8"))
    return metrics, record.info(run), report


def _licence(recipe: Recipe) -> str:
    from train.base import _folder

    file = _folder(recipe) / "README.md"
    return licence(recipe, file.read_text(encoding="utf-8") if file.is_file() else "")


def licence(recipe: Recipe, card_of_base: str) -> str:
    """What the base's own card says; the derivative's is the same. Raises `TrainError` where it says nothing."""
    stated = ModelCard(card_of_base, ignore_metadata_errors=True).data.get("license") if card_of_base else None
    if stated or "gemma" in recipe.base.lower():
        return str(stated or "gemma")
    raise TrainError(f"The base {recipe.base} has no README.md that states its licence; write one beside its weights.")


def _front(recipe: Recipe, tuned: dict[str, Any], licence: str, library: str) -> str:
    data = recipe.data[0]

    # The Hub tells results apart by task and data set only, so that what was measured stands in the metric's name.
    def on_test(value: float, metric: str, name: str) -> EvalResult:
        return EvalResult(
            "text-generation", _named(data), "test split", metric, value, metric_name=name, dataset_split="test"
        )

    results = [
        on_test(tuned["test"][kind]["perplexity"], "perplexity", f"perplexity of {words}")
        for kind, words in _KINDS.items()
    ]
    if "rouge_l" in tuned:
        results.append(on_test(tuned["rouge_l"]["mean"], "rouge", "ROUGE-L of written answers"))
    for name, ways in tuned.get("multiple_choice", {}).items():
        benchmark = BENCHMARKS[name]
        results += [
            EvalResult(
                "multiple-choice", benchmark.repository, benchmark.title, "accuracy", found["share"],
                metric_name=f"accuracy, {_WAYS[way]}", dataset_split=benchmark.split,
            )
            for way, found in ways.items()
        ]  # fmt: skip
    front = ModelCardData(
        license=licence,
        base_model=recipe.base if _on_hub(recipe.base) else None,
        datasets=[_repository(one) for one in recipe.data if _on_hub(_repository(one))] or None,
        language="en",
        library_name=library,
        pipeline_tag="text-generation",
        tags=["medical", "question-answering", "lora"],
        model_name=recipe.name,
        eval_results=results,
    )
    return f"---\n{front.to_yaml()}\n---"


# ---- sections -------------------------------------------------------------------------------------------------------


def _scores(evaluation: dict[str, Any]) -> str:
    scores = evaluation["scores"]
    base, tuned = scores["base"], scores["merged"]
    parts = [
        f"In one sentence: {evaluation['verdict']}",
        "Losses are negative log-likelihoods a token in nats, weighted by tokens; the smaller the better. Brackets hold 95 % "
        "intervals over examples. A change is paired, on the same examples. Base and this model are scored in the same precision, unquantised.",
        _table(
            ["loss on", "split", "examples", "base", "this model", "change", "perplexity: base", "this model"],
            [
                [
                    _KINDS[kind], _SPLITS[split], f"{found['examples']:,}", _figure(base[split][kind]), _figure(found),
                    _figure(found["change"], sign="+"), f"{base[split][kind]['perplexity']:,.4g}", f"{found['perplexity']:,.4g}",
                ]
                for kind in _KINDS for split in _SPLITS for found in [tuned[split][kind]]
            ],
        ),
    ]  # fmt: skip
    parts.append("The steps between, and what each costs or gains, on the answers of the test split:")
    names = {
        "base": "base",
        "quantised base": "base in 4 bits",
        "adapter": "base with adapter, as trained",
        "merged": "merged",
    }
    parts.append(
        _table(
            ["model", "loss", "perplexity"],
            [
                [names[name], _figure(found["test"]["answer"]), f"{found['test']['answer']['perplexity']:,.4g}"]
                for name, found in scores.items()
            ],
        )
    )
    sources = tuned["test"]["answer"]["by_source"]
    if len(sources) > 1:
        before = base["test"]["answer"]["by_source"]
        rows = [[name, f"{one['examples']:,}", _figure(before[name]), _figure(one)] for name, one in sources.items()]
        parts += ["By source, on the same answers:", _table(["source", "examples", "base", "this model"], rows)]
    if "multiple_choice" in tuned:
        parts += ["Multiple choice, asked through the chat template with the system prompt, no examples given; guessing is "
                  "right in 25 %. Not comparable with leaderboards that prompt otherwise.", _choices(base, tuned)]  # fmt: skip
    if "rouge_l" in tuned:
        found = tuned["rouge_l"]
        parts.append(
            f"ROUGE-L (F1, stemmed) of {found['examples']:,} written answers against the data's, greedy: base "
            f"{_figure(base['rouge_l'], 'mean')}, this model {_figure(found, 'mean')}, change "
            f"{_figure(found['change'], 'mean', sign='+')}."
        )
    return "\n\n".join(parts)


def _choices(base: dict[str, Any], tuned: dict[str, Any]) -> str:
    rows = [
        [BENCHMARKS[name].title, _WAYS[way], f"{found['questions']:,}", _figure(base["multiple_choice"][name][way], "share"),
         _figure(found, "share"), _figure(found["change"], "mean", sign="+")]
        for name, ways in tuned["multiple_choice"].items() for way, found in ways.items()
    ]  # fmt: skip
    return _table(["benchmark", "counted as right", "questions", "base", "this model", "change"], rows)


def _files(kinds: dict[str, Any]) -> str:
    rows = [
        [f"`model-{kind}.gguf`", f"{found['bytes'] / 1e6:,.1f} MB", _figure(found), f"{found['perplexity']:,.4g}"]
        for kind, found in kinds.items()
    ]
    return (
        "For llama.cpp and what is built on it. Loss on answers of the test split, with the weights as each file stores them:\n\n"
        + _table(["file", "size", "loss", "perplexity"], rows)
    )


def _data(recipe: Recipe, report: dict[str, Any]) -> str:
    given = ", ".join(f"`{_named(one)}`" + _at(report["revisions"].get(one, "")) for one in recipe.data)
    shares = ", ".join(f"{name} {count:,}" for name, count in report["splits"].items())
    used = {name: fates for name, fates in report["sources"].items() if fates["used"]}
    return (
        f"{given}: {report['rows']:,} rows, of which {sum(report['splits'].values()):,} were used after cleaning and removing "
        f"duplicates ({shares}). No question stands on two sides of the split.\n\n"
        + _table(["source", "rows used", "licence"], [[n, f"{f['used']:,}", f["licence"]] for n, f in used.items()])
    )


def _method(recipe: Recipe, metrics: dict[str, Any], info: dict[str, Any]) -> str:
    training, merge = metrics["training"], metrics["merge"]
    learned = "the answer and its end" if recipe.loss == "answer" else "the whole sequence"
    ways = "\n".join(f"- {way}: {_figure(found)}" for way, found in merge["validation"].items())
    return (
        f"LoRA of rank {recipe.lora_r}, alpha {recipe.lora_alpha}, dropout {recipe.lora_dropout:g} on "
        f"{', '.join(recipe.lora_modules)}: {training['trainable_parameters']:,} parameters. {training['examples']:,} examples, "
        f"{training['tokens']:,} tokens, in {training['rows']:,} rows of at most {recipe.max_length:,}; {training['dropped']:,} "
        f"examples had no room for an answer. The loss is on {learned}. {training['steps']:,} steps of {recipe.batch_size} × "
        f"{recipe.accumulation} rows, {recipe.optimizer}, learning rate {recipe.learning_rate:g}, {recipe.schedule} schedule; the "
        f"checkpoint with the best validation loss was kept. Seed {recipe.seed}. {_cost(training, info)}\n\n"
        f"Merged on the {merge['kept']}, by the loss on validation {_KINDS[recipe.loss]}:\n\n{ways}\n\n"
        f"Loaded again, the merged model's logits differ from those of base and adapter by {merge['logit_rounding']:.2%} of their "
        f"spread (at most {merge['logit_bound']:.0%} is allowed; training changed them by {merge['logit_change']:.0%})."
    )


def _cost(training: dict[str, Any], info: dict[str, Any]) -> str:
    text = f"Training took {_duration(training['seconds'])} on {training['device']}."
    if stages := info.get("stages", {}):
        whole_time = _duration(sum(stage["seconds"] for stage in stages.values()))
        last = list(stages.values())[-1]
        machine, versions = last["hardware"], ", ".join(f"{name} {number}" for name, number in last["versions"].items())
        text += (
            f" All stages: {whole_time}, {machine['cores']} cores, {machine['memory_gib']:g} GiB of memory"
            f"{''.join(', ' + gpu for gpu in machine['gpus'])}; {versions}."
        )
    return text


def _terms(licence: str) -> str:
    asked = f"{GEMMA} {_DERIVATIVE}" if licence == "gemma" else f"As the base: `{licence}`."
    return f"## Licence\n\n{asked} The licences of the data are listed above."


def _samples(evaluation: dict[str, Any]) -> str:
    return "\n\n".join(
        f"**{sample['question']}**\n\nBase:\n\n{_quoted(sample['base'])}\n\nThis model:\n\n{_quoted(sample['answer'])}"
        for sample in evaluation["samples"]
    )


# ---- words ----------------------------------------------------------------------------------------------------------


def _figure(found: dict[str, Any], name: str = "loss", sign: str = "") -> str:
    if found[name] is None:
        return "–"
    low, high = found["interval"]
    return f"{_number(found[name], sign)} ({_number(low, sign)} to {_number(high, sign)})"


def _number(value: float, sign: str) -> str:
    """Four decimals, or three digits where those would all be 0."""
    return f"{value:{sign}.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:{sign}.2g}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def base_named(recipe: Recipe) -> str:
    """What readers know the base as."""
    return f"`{_named(recipe.base)}`" + _at(recipe.base_revision)


def _at(revision: str) -> str:
    return f" (revision `{revision}`)" if revision else ""


def _named(name: str) -> str:
    """A repository, or a file or folder of the project; of another place on the machine that trained only the end."""
    return name.rstrip("/").rpartition("/")[2] if name.startswith(("/", ".", "~")) else _repository(name)


def _repository(data: str) -> str:
    return re.split("[:@]", data)[0]


def _on_hub(name: str) -> bool:
    """Whether this names a repository rather than a file or folder here."""
    from pathlib import Path

    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not Path(name).exists()


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.strip().splitlines()) or "> (nothing)"
