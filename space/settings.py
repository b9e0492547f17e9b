"""Settings: every choice a deployer has, read once from the environment. The only reader of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

DEMO_MODEL = Path(__file__).parent / "demo"
"""The embedded model's folder, in the shape of a published model."""


def _flag(text: str) -> bool:
    values = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in values:
        raise ValueError("1 or 0")
    return values[text.lower()]


def _number(kind: type, low: float, high: float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        expected = f"a {'whole ' if kind is int else ''}number from {low:g} to {high:g}"
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(expected) from None
        if not low <= value <= high:
            raise ValueError(expected)
        return value

    return parse


def _choice(*values: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return text

    return parse


def _rate(text: str) -> str:
    from limits import parse

    try:
        parse(text)
    except ValueError:
        raise ValueError("a number of questions and a time, such as 20/minute") from None
    return text


def _setting(default: Any, variable: str, parse: Callable[[str], Any], help: str) -> Any:
    return field(default=default, metadata={"variable": variable, "parse": parse, "help": help})


@dataclass(frozen=True)
class Settings:
    """What a deployer chose. Every field but `problems` is an environment variable, named in its metadata."""

    model_id: str = _setting(
        "", "MODEL_ID", str, "Hub repository or local folder of the model; empty: the embedded demo"
    )
    model_revision: str = _setting(
        "", "MODEL_REVISION", str, "branch, tag or commit of the Hub repository; empty: `main`"
    )
    hf_token: str = field(
        default="",
        repr=False,
        metadata={"variable": "HF_TOKEN", "parse": str, "help": "access token for a private or gated repository"},
    )
    engine: str = _setting(
        "auto",
        "ENGINE",
        _choice("auto", "transformers", "llamacpp", "remote"),
        "what computes: `transformers`, `llamacpp` or `remote`; `auto`: remote where ENDPOINT_URL is set, llama.cpp where there "
        "is no GPU and the model has a GGUF file, else transformers",
    )
    gguf_file: str = _setting(
        "",
        "GGUF_FILE",
        str,
        "GGUF file of the model to take; empty: the smallest of four bits and more that fits memory",
    )
    endpoint_url: str = _setting(
        "", "ENDPOINT_URL", str, "OpenAI-compatible server (vLLM, TGI, llama-server, Ollama, …) that answers instead"
    )
    endpoint_context: int = _setting(
        0, "ENDPOINT_CONTEXT", _number(int, 0, 10_000_000), "tokens that server's context holds; 0: ask it, else 4,096"
    )
    load_in_4bit: bool = _setting(False, "LOAD_IN_4BIT", _flag, "load the weights as NF4 through bitsandbytes (1 or 0)")
    generation_timeout: float = _setting(
        120.0, "GENERATION_TIMEOUT", _number(float, 1, 3600), "seconds an answer may take before it is ended"
    )
    max_running: int = _setting(
        4, "MAX_RUNNING", _number(int, 1, 64), "answers generated at once, for the page and the API together"
    )
    max_waiting: int = _setting(
        8, "MAX_WAITING", _number(int, 0, 1000), "further requests that wait for a place; more are refused as busy"
    )
    rate_limit: str = _setting(
        "", "RATE_LIMIT", _rate, "questions one visitor may ask, e.g. `20/minute`, counted by address; empty: no limit"
    )
    mcp: bool = _setting(False, "MCP", _flag, "serve the question-answering tool over MCP too (1 or 0)")
    metrics: bool = _setting(False, "METRICS", _flag, "serve counts for Prometheus at `/metrics` (1 or 0)")
    log_level: str = _setting(
        "info",
        "LOG_LEVEL",
        _choice("info", "warning", "error"),
        "what is logged, on stderr: `info` is a line for each request, `warning` for those that failed only",
    )
    server_name: str = _setting("127.0.0.1", "GRADIO_SERVER_NAME", str, "address to listen on; Spaces sets `0.0.0.0`")
    server_port: int = _setting(7860, "GRADIO_SERVER_PORT", _number(int, 0, 65535), "port to listen on")
    zero_gpu: bool = _setting(False, "SPACES_ZERO_GPU", _flag, "set by Spaces on ZeroGPU hardware")
    problems: tuple[str, ...] = ()
    """A sentence for each variable whose value could not be used; its field keeps the default."""

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """The settings of this environment. Never raises: a bad value lands in `problems`, so that a page can say it."""
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        problems = []
        for option in fields(cls):
            if option.name == "problems":
                continue
            text = environment.get(option.metadata["variable"], "").strip()
            if not text:
                continue
            try:
                values[option.name] = option.metadata["parse"](text)
            except ValueError as expected:
                problems.append(
                    f"The setting {option.metadata['variable']} is {text!r} but must be {expected}; "
                    "correct it and start again."
                )
        return cls(**values, problems=tuple(problems))

    @property
    def embedded(self) -> bool:
        """Whether the embedded demo model is what answers."""
        return not self.model_id

    @property
    def remote(self) -> bool:
        """Whether a server elsewhere computes the answers, and so reads what visitors type."""
        return self.engine == "remote" or (self.engine == "auto" and bool(self.endpoint_url))


def table() -> str:
    """The settings as a Markdown table, for the README (a test holds the two together)."""
    rows = ["| variable | default | what it does |", "|---|---|---|"]
    for option in fields(Settings):
        if option.name != "problems":
            default = int(option.default) if isinstance(option.default, bool) else option.default
            shown = f"`{default:g}`" if isinstance(default, int | float) else f"`{default}`" if default else "–"
            rows.append(f"| `{option.metadata['variable']}` | {shown} | {option.metadata['help']} |")
    return "\n".join(rows)
