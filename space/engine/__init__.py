"""One seam between the chat and whatever makes the words: `Engine.stream`.

An engine takes messages, a `Sampling` and an event that cancels, and yields pieces of text. `load` chooses the
engine; nothing outside this package knows which kind it is.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from space.errors import BadRequest, ModelError
from space.prompt import Message
from space.settings import Settings

if TYPE_CHECKING:
    from space.engine.provenance import Provenance


def _range(default: float, label: str, low: float, high: float, step: float, help: str) -> Any:
    return field(default=default, metadata={"label": label, "low": low, "high": high, "step": step, "help": help})


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The metadata of each field (range, step, help) is what sliders and API obey."""

    max_new_tokens: int = _range(
        512, "Longest answer", 16, 2048, 16, "In tokens; a token is about three quarters of a word."
    )
    temperature: float = _range(
        1.0,
        "Temperature",
        0.0,
        2.0,
        0.05,
        "0 always takes the likeliest word; higher is more varied and less reliable.",
    )
    top_p: float = _range(
        1.0, "Top-p", 0.05, 1.0, 0.05, "Choose only among the likeliest words that together reach this probability."
    )
    top_k: int = _range(0, "Top-k", 0, 200, 1, "Choose only among this many of the likeliest words; 0 means all.")
    repetition_penalty: float = _range(
        1.0, "Repetition penalty", 1.0, 2.0, 0.05, "Above 1, words already used become less likely."
    )
    seed: int = _range(
        -1, "Seed", -1, 2**31 - 1, 1, "The same seed repeats the same answer; −1 draws a new one each time."
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value, whole = getattr(self, option.name), isinstance(option.default, int)
            low, high = option.metadata["low"], option.metadata["high"]
            if isinstance(value, float) and whole and value.is_integer():
                value = int(value)
                object.__setattr__(self, option.name, value)
            numeric = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not numeric or not low <= value <= high:
                kind = "a whole number" if whole else "a number"
                raise BadRequest(
                    f"{option.name} is {value!r} but must be {kind} from {low:g} to {high}; please change it."
                )

    def changed(self, values: Mapping[str, Any]) -> Sampling:
        """These values with some replaced; `None` keeps what is there. Raises `BadRequest` for a bad value."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def defaults(given: Mapping[str, Any], context: int) -> Sampling:
    """A model's own sampling, as its generation_config.json gives it, within our ranges.

    A model that does not sample by default is greedy: temperature 0. The longest answer is at most half the context.
    """
    values: dict[str, Any] = {"max_new_tokens": min(Sampling().max_new_tokens, context // 2)}
    for option in fields(Sampling):
        value = given.get(option.name)
        if option.name in ("temperature", "top_p", "top_k", "repetition_penalty") and value is not None:
            values[option.name] = min(max(value, option.metadata["low"]), option.metadata["high"])
    if not given.get("do_sample"):
        values["temperature"] = 0.0
    return Sampling(**values)


@dataclass(frozen=True)
class Finish:
    """How an answer ended, and what it cost in tokens. What `Engine.stream` returns when it is exhausted."""

    reason: Literal["stop", "length", "cancelled"]
    prompt_tokens: int
    completion_tokens: int


class Engine(Protocol):
    """A loaded model. Safe to use from several threads at once."""

    provenance: Provenance
    context: int
    """Tokens that prompt and answer may have together."""
    sampling: Sampling
    """The model's own defaults, from its generation_config.json; `max_new_tokens` is at most half the context."""

    def check(self) -> None:
        """Raises `GenerationFailed`, with the reason, where the model cannot be reached now. Takes two seconds at most."""
        ...

    def count(self, messages: list[Message]) -> int:
        """The number of prompt tokens of these messages, as `stream` would send them."""
        ...

    def stream(
        self, messages: list[Message], sampling: Sampling, cancel: threading.Event
    ) -> Generator[str, None, Finish]:
        """Pieces of the answer's text as they are made; the generator's return value is the `Finish`.

        Yields at least once a token, an empty piece where there is nothing to show yet, so that whoever reads
        can stop between any two tokens by closing the generator or setting `cancel`. Holds no thread.
        """
        ...


def load(settings: Settings) -> Engine:
    """The engine for these settings. Raises `ModelError` with a sentence that says what the deployer should do."""
    if settings.problems:
        raise ModelError(" ".join(settings.problems))
    from space.engine.machine import has_gpu, has_torch
    from space.engine.source import locate, locate_gguf

    if settings.remote:
        from space.engine.remote import RemoteEngine

        return RemoteEngine(settings)
    on_cpu = not settings.zero_gpu and not settings.load_in_4bit and not (has_torch() and has_gpu())
    if settings.engine == "llamacpp" or (settings.engine == "auto" and (on_cpu or settings.gguf_file)):
        if file := locate_gguf(settings):
            from space.engine.llamacpp import LlamaCppEngine

            return LlamaCppEngine(file, settings)
        if settings.engine == "llamacpp":
            raise ModelError(
                f"{settings.model_id or 'The embedded model'} has no GGUF file, which ENGINE=llamacpp needs; "
                "choose a model that has one, or set ENGINE=auto."
            )
    if not has_torch():
        raise ModelError(
            f"{settings.model_id or 'The embedded model'} cannot be loaded without torch, which is not installed here; choose "
            "a model that has a GGUF file, with ENGINE and LOAD_IN_4BIT not set, or install all of requirements.txt."
        )
    from space.engine.pytorch import PyTorchEngine

    return PyTorchEngine(locate(settings), settings)
