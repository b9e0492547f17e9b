"""Multiple choice: the benchmarks' questions, and which option a model finds likeliest.

Our own lines rather than lm-evaluation-harness, which brings many packages, another way of loading models,
and prompts without our system prompt; what is measured here is the model as the page uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.errors import TrainError
from train.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LETTERS = "ABCD"
_KINDS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark is published, and its columns: the question, the options, and which of them is right, from 0."""

    title: str
    repository: str
    split: str
    question: str
    options: tuple[str, ...]
    right: str


BENCHMARKS = {
    "medmcqa": Benchmark(
        "MedMCQA", "openlifescienceai/medmcqa", "validation", "question", ("opa", "opb", "opc", "opd"), "cop"
    ),
    "medqa": Benchmark(
        "MedQA (USMLE, 4 options)",
        "GBaker/MedQA-USMLE-4-options-hf",
        "test",
        "sent1",
        ("ending0", "ending1", "ending2", "ending3"),
        "label",
    ),
}
"""The splits that others report too: MedMCQA's test split has no published answers."""


@dataclass(frozen=True)
class Question:
    """A question, its options and the place of the right one."""

    text: str
    options: tuple[str, ...]
    right: int


def load(recipe: Recipe) -> dict[str, list[Question]]:
    """All questions of the recipe's benchmarks, from the Hub or from files. Raises `TrainError` where they cannot be had."""
    return {name: _read(name, file) for name, file in _named(recipe)}


def files(recipe: Recipe) -> list[Path]:
    """The local files among the recipe's benchmarks."""
    return [Path(file) for _, file in _named(recipe) if file]


def drawn(questions: Sequence[Question], recipe: Recipe) -> list[Question]:
    """`recipe.benchmark_questions` of the questions, by the recipe's seed, in their order."""
    if not 0 < recipe.benchmark_questions < len(questions):
        return list(questions)
    places = np.random.default_rng(recipe.seed).choice(len(questions), recipe.benchmark_questions, replace=False)
    return [questions[place] for place in sorted(places)]


def score(
    model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], recipe: Recipe
) -> dict[str, list[bool]]:
    """For each question, whether the likeliest option is the right one: "plain", by the option's summed log-likelihood,
    and "normalised", by that over its number of characters (lm-evaluation-harness calls them acc and acc_norm).

    The question and its lettered options are asked as a visitor would ask, through the chat template with the system
    prompt; what is scored is the answer "B. …" and its end.
    """
    from train.likelihood import token_losses
    from train.packing import Encoded, encode

    whole = replace(recipe, max_length=32_768, loss="answer")
    encoded: list[Encoded] = []
    for question in questions:
        listed = _listed(question)
        asked = f"{question.text}\n\n" + "\n".join(listed)
        for answer in listed:
            example = encode(asked, answer, tokenizer, whole)
            assert example is not None  # no question is that long
            encoded.append(example)
    losses = np.array([loss.sum() for loss in token_losses(model, encoded)]).reshape(-1, len(LETTERS))
    lengths = np.array([[len(answer) for answer in _listed(question)] for question in questions]).reshape(losses.shape)
    right = np.array([question.right for question in questions])
    return {
        "plain": (losses.argmin(axis=1) == right).tolist(),
        "normalised": ((losses / lengths).argmin(axis=1) == right).tolist(),
    }


def _listed(question: Question) -> list[str]:
    return [f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=True)]


def _named(recipe: Recipe) -> list[tuple[str, str]]:
    """Name and file ('' for the Hub) of each benchmark."""
    named = []
    for entry in recipe.benchmarks:
        name, _, file = entry.partition("=")
        if name not in BENCHMARKS:
            raise TrainError(f"The recipe's benchmarks name {name!r}, but there are only {', '.join(BENCHMARKS)}.")
        named.append((name, file))
    return named


def _read(name: str, file: str) -> list[Question]:
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    from train.sources import load as load_rows

    benchmark = BENCHMARKS[name]
    if file and (Path(file).suffix not in _KINDS or not Path(file).is_file()):
        raise TrainError(f"The benchmark {name} should be in {file}, but there is no such {', '.join(_KINDS)} file.")
    try:
        if file:
            rows = load_rows(_KINDS[Path(file).suffix], data_files=file)
        else:
            rows = load_rows(benchmark.repository, split=benchmark.split)
    except (DatasetsError, HfHubHTTPError, OSError, ValueError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
        raise TrainError(
            f"The benchmark {name} could not be loaded from {file or benchmark.repository} ({line}); check the connection, "
            f"name a local copy in the recipe ({name}=FILE), or leave it out of benchmarks."
        ) from error
    return [_question(row, benchmark, f"row {number:,} of {file or name}") for number, row in enumerate(rows, 1)]


def _question(row: dict[str, Any], benchmark: Benchmark, where: str) -> Question:
    """The question of a row. A benchmark is not data to be cleaned: one bad row, and it is another file than it should be."""
    columns = (benchmark.question, *benchmark.options)
    if wrong := [column for column in columns if not isinstance(row.get(column), str)]:
        raise TrainError(
            f"{where} has no text in {wrong[0]!r}; its columns must be {', '.join(columns)}, {benchmark.right}."
        )
    right = row.get(benchmark.right)
    if not isinstance(right, int) or right not in range(len(LETTERS)):
        raise TrainError(f"{where} says {right!r} in {benchmark.right!r}, but the right option must be 0 to 3.")
    return Question(row[benchmark.question], tuple(row[column] for column in benchmark.options), right)
