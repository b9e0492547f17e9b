"""The engine on llama.cpp: one GGUF file, any CPU, several conversations at once; no torch.

xllamacpp runs llama.cpp's own server inside this process. It is spoken to over loopback HTTP, with a key that nobody else
knows, because there a reader who goes away is noticed at once, and no thread of ours waits for a token. Prompts go in as
token ids: the chat template is rendered here and control tokens in a visitor's text are dead already (`space.prompt`).
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from space.engine import Finish, Sampling, defaults
from space.engine.gguf import KEPT, OVERHEAD, Header, read_header
from space.engine.machine import cores, free_memory
from space.engine.provenance import Provenance, read
from space.engine.template import compile_template
from space.errors import GenerationFailed, ModelError
from space.prompt import Message, conversation
from space.settings import Settings

if TYPE_CHECKING:
    import httpx2

_BATCH = 128
"""Tokens computed at once: the longest a running answer waits while another's prompt is read."""
_SMALLEST_CONTEXT = 2048
_CHAIN = ["penalties", "temperature", "top_k", "top_p"]
"""llama.cpp's own order is another, with filters of which our sliders know nothing."""
_GEMMA = {"temperature": 1.0, "top_k": 64, "top_p": 0.95, "do_sample": True}
"""How a model samples whose files do not say: as Google publishes Gemma 3."""


class LlamaCppEngine:
    """The model in a GGUF file, loaded for `settings.max_running` conversations at once. Raises `ModelError`."""

    def __init__(self, file: Path, settings: Settings) -> None:
        import httpx2

        name = "the embedded model" if settings.embedded else settings.model_id
        header = read_header(file, name)
        self.context = _context(header, name, settings)
        key = secrets.token_urlsafe(32)
        self._server = _start(file, name, header, self.context, settings, key)
        self._client = httpx2.Client(
            base_url=self._server.listening_address,
            headers={"Authorization": f"Bearer {key}"},
            trust_env=False,  # a proxy has no business on loopback
            timeout=httpx2.Timeout(10, read=settings.generation_timeout + 10),
        )
        about = self._ask("GET", "/props")
        self._render = _template(about, header, name)
        self.sampling = defaults(_sampling(file, header), self.context)
        self.provenance = _provenance(file, header, settings, about["model_ftype"])

    def _ids(self, messages: list[Message]) -> list[int]:
        # The template writes <bos> itself.
        body = {"content": self._render(messages), "add_special": False, "parse_special": True}
        return list(self._ask("POST", "/tokenize", json=body)["tokens"])

    def _ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        return dict(self._client.request(method, path, **body).raise_for_status().json())

    def check(self) -> None:
        """See `Engine.check`: the model is in this process."""

    def count(self, messages: list[Message]) -> int:
        return len(self._ids(messages))

    def stream(
        self, messages: list[Message], sampling: Sampling, cancel: threading.Event
    ) -> Generator[str, None, Finish]:
        """See `Engine.stream`. A character of several tokens comes with its last one. Raises `GenerationFailed`."""
        import httpx2

        prompt = self._ids(messages)
        done = 0
        if cancel.is_set():
            return Finish("cancelled", len(prompt), done)
        try:
            with self._client.stream("POST", "/completion", json=_request(prompt, sampling)) as response:
                for event in _events(response):
                    if event["stop"]:
                        ended = event["stop_type"] == "eos"
                        return Finish("stop" if ended else "length", len(prompt), event["tokens_predicted"] - ended)
                    done = event["tokens_predicted"]
                    yield event["content"]
                    if cancel.is_set():
                        return Finish("cancelled", len(prompt), done)
        except httpx2.HTTPError as error:
            raise GenerationFailed(f"The model stopped with an error ({error}); please try again.") from error
        raise GenerationFailed("The model stopped in the middle of the answer; please try again.")


def _request(prompt: list[int], sampling: Sampling) -> dict[str, Any]:
    """The body for llama.cpp's /completion: our sampling in its words, and progress while a prompt is read."""
    return {
        "prompt": prompt,
        "stream": True,
        "return_progress": True,
        "n_predict": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,  # -1 draws a new one
        "response_fields": ["content", "stop", "stop_type", "tokens_predicted"],
        **dialect(sampling),
    }


def dialect(sampling: Sampling) -> dict[str, Any]:
    """What OpenAI's protocol has no words for, in those of llama.cpp's server, here or elsewhere."""
    return {
        "samplers": _CHAIN,
        "top_k": sampling.top_k,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": 1_000_000,  # all of it, the prompt too, as in transformers
        # A prompt read afresh is computed in larger batches than one half cached, and rounds differently: a seed would not
        # always repeat its answer.
        "cache_prompt": sampling.seed < 0 or sampling.temperature == 0,
    }


def _events(response: httpx2.Response) -> Iterator[dict[str, Any]]:
    """The server's events. Raises `GenerationFailed` where it says that something went wrong."""
    if response.is_error:
        raise GenerationFailed(_sentence(json.loads(response.read())["error"]))
    for line in response.iter_lines():
        if line.startswith("error:"):
            raise GenerationFailed(_sentence(json.loads(line.removeprefix("error:"))))
        if line.startswith("data:"):
            event = json.loads(line.removeprefix("data:"))
            if "error" in event:
                raise GenerationFailed(_sentence(event["error"]))
            yield event


def _sentence(error: dict[str, Any]) -> str:
    return f"The model stopped with an error ({error.get('message', error)}); please try again."


# ---- loading ------------------------------------------------------------------------------------------------------


def _context(header: Header, name: str, settings: Settings) -> int:
    """Tokens for each conversation: what the model was trained with, or what memory has room for. Raises `ModelError`."""
    each, fixed = header.cache_bytes(_BATCH)
    needed = header.size + OVERHEAD + settings.max_running * fixed
    free = free_memory()
    room = (free - needed) // (settings.max_running * each) if each else header.context
    least = min(_SMALLEST_CONTEXT, header.context)
    if free < needed or room < least:
        raise ModelError(
            f"There is not enough memory on this machine for {name}: it needs "
            f"{(needed + settings.max_running * least * each) / 2**30:.1f} GB and {free / 2**30:.1f} GB are free; set "
            "GGUF_FILE to a smaller file, lower MAX_RUNNING, or choose a smaller model."
        )
    return min(header.context, room // 256 * 256)


def _start(file: Path, name: str, header: Header, context: int, settings: Settings, key: str) -> Any:
    from xllamacpp import CommonParams, Server

    parameters = CommonParams()
    parameters.model.path = str(file)
    parameters.n_parallel = settings.max_running
    parameters.n_ctx = context * settings.max_running
    parameters.n_batch = parameters.n_ubatch = _BATCH
    # A model that fits the caches is fastest on one core: there is nothing to share but waiting.
    threads = 1 if header.size < 64 * 2**20 else cores()
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.fit_params = False  # memory was looked at before
    parameters.cache_ram_mib = KEPT // 2**20
    parameters.verbosity = 1  # errors only, and never what is typed
    parameters.api_keys = [key]
    parameters.ui = False
    parameters.endpoint_slots = False
    try:
        return Server(parameters)
    except RuntimeError as error:
        raise ModelError(
            f"llama.cpp cannot load {name} (architecture {header.architecture!r}): the file is damaged, or of a kind that "
            "this version does not know; fetch it again or choose another model."
        ) from error


def _template(about: dict[str, Any], header: Header, name: str) -> Any:
    from jinja2 import TemplateError

    text = header.values.get("tokenizer.chat_template")
    if not text:
        raise ModelError(
            f"{name} has no chat template, so it is not made for conversation; choose an instruction-tuned model."
        )
    try:
        render = compile_template(text, bos_token=about["bos_token"], eos_token=about["eos_token"])
        render(conversation([], "?"))
    except TemplateError as error:
        raise ModelError(
            f"The chat template of {name} refuses a system message and a question ({error}); "
            "choose a model whose template takes both."
        ) from error
    return render


def _sampling(file: Path, header: Header) -> dict[str, Any]:
    """What the file says about sampling, or the generation_config.json beside it, in the words of the latter."""
    names = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "penalty_repeat": "repetition_penalty"}
    said = {ours: header.values.get(f"general.sampling.{theirs}") for theirs, ours in names.items()}
    if any(value is not None for value in said.values()):
        return {**said, "do_sample": said["temperature"] != 0}
    beside = file.parent / "generation_config.json"
    return dict(json.loads(beside.read_text(encoding="utf-8"))) if beside.is_file() else _GEMMA


def _provenance(file: Path, header: Header, settings: Settings, precision: str) -> Provenance:
    """That of the card beside the file; where it is silent, what the file itself says."""
    from xllamacpp import get_device_info

    device = next((found["name"] for found in get_device_info() if found["name"] != "CPU"), "cpu")
    card = read(file.parent, settings, runs_on=f"llama.cpp, {device}, {precision.split(' ')[0]}")
    said = header.values
    data = (said.get(f"general.dataset.{i}.name") for i in range(said.get("general.dataset.count", 0)))
    return replace(
        card,
        base=card.base or said.get("general.base_model.0.name", ""),
        data=card.data or tuple(name for name in data if name),
        licence=card.licence or said.get("general.license", ""),
    )
