"""Recipe: every option of a training run, in one place, checked once. The defaults are the published run."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from train.errors import TrainError

RECIPES = Path(__file__).parent / "recipes"


def _option(default: Any, help: str, low: float | None = None, high: float | None = None) -> Any:
    return field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass(frozen=True)
class Recipe:
    """All there is to choose. Raises `TrainError` for a value of the wrong kind or out of range."""

    name: str = _option("medical-gemma-3-1b", "name of the run; its directory is runs/<name>")

    base: str = _option("google/gemma-3-1b-it", "base model: a Hub repository or a local folder")
    base_revision: str = _option("main", "branch, tag or commit of the base model")

    data: tuple[str, ...] = _option(
        ("lavita/medical-qa-datasets:all-processed",),
        "data sets: REPOSITORY[:CONFIG][@REVISION], or a local .json, .jsonl, .csv or .parquet file",
    )
    data_split: str = _option("train", "split of a Hub data set")
    data_weights: tuple[float, ...] = _option((), "share of the draw for each data set; empty: by their sizes")
    columns: tuple[str, ...] = _option(("instruction", "input", "output"), "columns: instruction, input, output")
    leave_out: tuple[str, ...] = _option(
        ("cord19", "mmlu"), "sources to leave out: what is not question answering, and what a benchmark tests"
    )
    examples: int = _option(50_000, "examples drawn from the cleaned rows; 0: all", 0)
    cleaning: Literal["full", "spaces"] = _option(
        "full", "mend texts and drop what is bad, or only collapse white space and keep all (as the seed project did)"
    )
    draw: Literal["random", "first"] = _option(
        "random", "draw at random and split by question, or take the first and shuffle (as the seed project did)"
    )
    splits: tuple[float, ...] = _option((0.70, 0.15, 0.15), "shares of train, validation and test")
    min_characters: int = _option(10, "fewest characters of a question and of an answer", 1)
    max_words: int = _option(500, "most words of a question and of an answer", 1)
    near_duplicates: float = _option(
        0.9, "Jaccard similarity from which a row counts as a duplicate; 0: exact only", 0, 1
    )
    most_malformed: float = _option(0.05, "share of malformed rows that stops the run", 0, 1)

    prompt: Literal["chat", "turns", "plain"] = _option(
        "chat", "the chat template with the serving prompt, without it (turns), or `Question: …\\nAnswer: …` (plain)"
    )
    loss: Literal["answer", "sequence"] = _option("answer", "tokens to learn: the answer and its end, or everything")
    packing: bool = _option(True, "several examples a row, isolated from one another; otherwise padding")
    max_length: int = _option(512, "tokens a row", 32, 32_768)

    bits: Literal[4, 16, 32] = _option(4, "base weights: 4 (NF4, double quantisation), 16 or 32 bits")
    lora_r: int = _option(16, "rank of the adapter", 1)
    lora_alpha: int = _option(32, "scale of the adapter", 1)
    lora_dropout: float = _option(0.05, "dropout of the adapter", 0, 0.99)
    lora_modules: tuple[str, ...] = _option(("q_proj", "k_proj", "v_proj", "o_proj"), "modules that get an adapter")

    epochs: float = _option(1.0, "passes over the training split", 0)
    batch_size: int = _option(4, "rows a step and device", 1)
    accumulation: int = _option(4, "steps whose gradients are summed", 1)
    learning_rate: float = _option(2e-4, "peak learning rate", 0)
    schedule: Literal["linear", "cosine", "constant"] = _option(
        "linear", "how the learning rate falls after the warm-up"
    )
    warmup_steps: float = _option(100, "steps of warm-up; below 1 a share of all steps", 0)
    weight_decay: float = _option(0.01, "weight decay", 0)
    max_grad_norm: float = _option(0.3, "gradients are clipped to this norm", 0)
    optimizer: str = _option("paged_adamw_8bit", "optimizer, by transformers' name")
    eval_steps: int = _option(250, "steps between two evaluations and checkpoints", 1)
    eval_examples: int = _option(500, "validation examples of an evaluation while training, always the same", 1)
    gradient_checkpointing: bool = _option(False, "trade time for memory; switched on by itself when memory runs out")
    seed: int = _option(42, "seed of draws, shuffles and weights", 0)
    report_to: tuple[str, ...] = _option((), "trackers: trackio, tensorboard, wandb, …")

    benchmarks: tuple[str, ...] = _option(
        ("medmcqa", "medqa"),
        "multiple choice to score, and to keep out of the data: NAME, or NAME=FILE of the published columns",
    )
    benchmark_questions: int = _option(1000, "questions of each benchmark, drawn by the seed; 0: all", 0)
    rouge_examples: int = _option(100, "test questions whose written answers are compared by ROUGE-L; 0: none", 0)

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for option in fields(self):
            value = _fit(option.name, getattr(self, option.name), hints[option.name])
            object.__setattr__(self, option.name, value)
            low, high = option.metadata["low"], option.metadata["high"]
            if (low is not None and value < low) or (high is not None and value > high):
                span = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
                raise TrainError(f"The recipe's {option.name} is {value!r} but must be {span}.")
        if len(self.splits) != 3 or min(self.splits) <= 0 or abs(sum(self.splits) - 1) > 1e-6:
            raise TrainError(
                f"The recipe's splits are {self.splits!r} but must be three positive shares that sum to 1."
            )
        if len(self.columns) != 3:
            raise TrainError(
                f"The recipe's columns are {self.columns!r} but must be three: instruction, input, output."
            )
        if self.data_weights and len(self.data_weights) != len(self.data):
            raise TrainError(
                "The recipe's data_weights must have one number for each of its data sets, or be left out."
            )

    def as_dict(self) -> dict[str, Any]:
        """The recipe as plain YAML types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def read(name_or_file: str = "", overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe of `train/recipes` by name, or a YAML file, or the defaults; then the overrides (text or values).

    Raises `TrainError` for an unknown recipe, an unknown option or a bad value.
    """
    import yaml

    values: dict[str, Any] = {}
    if name_or_file:
        file = RECIPES / f"{name_or_file}.yaml" if not name_or_file.endswith((".yaml", ".yml")) else Path(name_or_file)
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
            raise TrainError(f"There is no recipe {name_or_file!r}; name one of {known}, or a YAML file.")
        try:
            values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise TrainError(f"The recipe {file} is not YAML: {str(error).splitlines()[0]}") from error
        if not isinstance(values, dict):
            raise TrainError(f"The recipe {file} must be a mapping of options to values.")
    for name, value in (overrides or {}).items():
        values[name] = yaml.safe_load(value) if isinstance(value, str) and not _is_text(name) else value
    if unknown := sorted(set(values) - {option.name for option in fields(Recipe)}):
        raise TrainError(f"The recipe has no option {unknown[0]!r}; see python -m train all --help for those it has.")
    return Recipe(**values)


def _is_text(name: str) -> bool:
    return get_type_hints(Recipe).get(name) is str


def _fit(name: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`: lists become tuples, whole numbers may stand for floats, `1e-4` of YAML (a text) becomes one."""
    expected = str(kind).replace("typing.", "")
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise TrainError(f"The recipe's {name} is {value!r} but must be one of {', '.join(map(str, get_args(kind)))}.")
    if get_origin(kind) is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_fit(name, item, get_args(kind)[0]) for item in items)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    if isinstance(kind, types.GenericAlias):
        expected = str(kind)
    raise TrainError(
        f"The recipe's {name} is {value!r} but must be {'a ' + kind.__name__ if isinstance(kind, type) else expected}."
    )
