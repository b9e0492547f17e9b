"""The engine that is somewhere else: any OpenAI-compatible server, through huggingface_hub's InferenceClient.

vLLM, TGI, llama-server, Ollama, transformers serve, Inference Providers. Sampling beyond OpenAI's own words is said in the
server's dialect where it is known, and left out where it is not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from space.engine import Finish, Sampling
from space.engine.llamacpp import dialect
from space.engine.loading import first_line
from space.engine.provenance import Provenance
from space.errors import GenerationFailed, ModelError
from space.prompt import Message, conversation
from space.settings import Settings

_CONTEXT = 4096
"""Tokens of context where neither the server nor the deployer says."""
_CHARACTERS = 3
"""Characters a token, where the server counts none: few, as a prompt that is too long is refused."""


class RemoteEngine:
    """The model behind `settings.endpoint_url`. Raises `ModelError` where nobody answers there as a model server does."""

    def __init__(self, settings: Settings) -> None:
        import httpx2

        if not settings.endpoint_url.startswith(("http://", "https://")):
            raise ModelError(
                f"ENDPOINT_URL is {settings.endpoint_url!r} but must be the http:// or https:// address of an "
                "OpenAI-compatible server; correct it and start again."
            )
        self._url = settings.endpoint_url.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
        self._token = settings.hf_token
        self._timeout = settings.generation_timeout + 10
        self._http = httpx2.Client(
            base_url=self._url, headers={"Authorization": f"Bearer {self._token}"} if self._token else {}, timeout=10
        )
        listed = self._listed(settings)
        self._model = settings.model_id or str(listed.get("id", ""))
        self._server = str(listed.get("owned_by", ""))
        self.context = settings.endpoint_context or _context(listed)
        self.sampling = replace(Sampling(temperature=0.7), max_new_tokens=min(512, self.context // 2))
        self.provenance = Provenance(
            model=self._model, runs_on=f"remote, {self._server or 'server'} at {self._http.base_url.host}"
        )
        self._count = self._counter()

    def _listed(self, settings: Settings) -> dict[str, Any]:
        """What the server says of the model: its entry of /v1/models. Raises `ModelError`."""
        import httpx2

        try:
            response = self._http.get("/v1/models")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ModelError(
                f"Nothing answers at ENDPOINT_URL {settings.endpoint_url} ({first_line(error)}); start the server there, "
                "then start again."
            ) from error
        if response.status_code in (401, 403):
            raise ModelError(
                f"The server at {settings.endpoint_url} refused the token (status {response.status_code}); "
                "set HF_TOKEN to its key."
            )
        if response.status_code == 404 and settings.model_id:  # not every server has a list
            return {}
        try:
            models = {model["id"]: model for model in response.raise_for_status().json()["data"]}
            return dict(models.get(settings.model_id) or next(iter(models.values())))
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise ModelError(
                f"What answers at {settings.endpoint_url} is no OpenAI-compatible server (its /v1/models makes no sense); "
                "correct ENDPOINT_URL, or set MODEL_ID if it has no list of models."
            ) from error

    def _counter(self) -> Callable[[list[Message]], int]:
        """The server's own count of prompt tokens where it has one, else an estimate that rather has too many."""
        import httpx2

        def vllm(messages: list[Message]) -> int:
            body = {"model": self._model, "messages": messages, "add_generation_prompt": True}
            return int(self._http.post("/tokenize", json=body).raise_for_status().json()["count"])

        def llamacpp(messages: list[Message]) -> int:
            answer = self._http.post("/apply-template", json={"messages": messages}).raise_for_status().json()
            body = {"content": answer["prompt"], "add_special": True, "parse_special": True}
            return len(self._http.post("/tokenize", json=body).raise_for_status().json()["tokens"])

        def estimate(messages: list[Message]) -> int:
            return sum(8 + len(message["content"]) // _CHARACTERS for message in messages)

        for count in {"vllm": [vllm], "llamacpp": [llamacpp]}.get(self._server, []):
            try:
                count(conversation([], "?"))
            except (httpx2.HTTPError, ValueError, KeyError, TypeError):
                continue
            return count
        return estimate

    def check(self) -> None:
        """See `Engine.check`. A server without a list of models is reached where it says that it has none."""
        import httpx2

        try:
            status = self._http.get("/v1/models", timeout=2).status_code
        except httpx2.HTTPError as error:
            raise _failed(error) from error
        if status >= 500:
            raise GenerationFailed(f"The model server is in trouble (status {status}); please try again in a moment.")

    def count(self, messages: list[Message]) -> int:
        import httpx2

        try:
            return self._count(messages)
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            raise _failed(error) from error

    def stream(
        self, messages: list[Message], sampling: Sampling, cancel: threading.Event
    ) -> Generator[str, None, Finish]:
        """See `Engine.stream`. Raises `GenerationFailed` where the server refuses, makes no sense or goes away."""
        import httpx2
        from huggingface_hub import InferenceClient
        from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, TextGenerationError

        done, prompt, reason = 0, 0, ""
        if cancel.is_set():
            return Finish("cancelled", self.count(messages), 0)
        try:
            with InferenceClient(
                base_url=f"{self._url}/v1", api_key=self._token or None, timeout=self._timeout
            ) as client:
                for chunk in client.chat_completion(list(messages), **_options(self._model, self._server, sampling)):
                    if chunk.usage:
                        prompt, done = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
                    if not chunk.choices:
                        continue
                    reason = chunk.choices[0].finish_reason or reason
                    piece = chunk.choices[0].delta.content or ""
                    done += bool(piece)
                    yield piece
                    if cancel.is_set():
                        return Finish("cancelled", prompt or self.count(messages), done)
        except (httpx2.HTTPError, HfHubHTTPError, InferenceTimeoutError, TextGenerationError, OSError) as error:
            raise _failed(error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GenerationFailed("The model server's answer makes no sense; please try again later.") from error
        if not reason:
            raise GenerationFailed("The model server went away in the middle of the answer; please try again.")
        return Finish("length" if reason == "length" else "stop", prompt or self.count(messages), done)


def _failed(error: Exception) -> GenerationFailed:
    return GenerationFailed(f"The model server did not answer ({first_line(error)}); please try again in a moment.")


def _context(listed: dict[str, Any]) -> int:
    """The context of a model, as vLLM (max_model_len) or llama-server (meta.n_ctx) list it."""
    meta = listed.get("meta") or {}
    return int(listed.get("max_model_len") or meta.get("n_ctx") or _CONTEXT)


def _options(model: str, server: str, sampling: Sampling) -> dict[str, Any]:
    """The arguments of `chat_completion`."""
    beyond: dict[str, Any] = {}
    if server == "llamacpp":
        beyond = dialect(sampling)
    elif server == "vllm":
        beyond = {"top_k": sampling.top_k, "repetition_penalty": sampling.repetition_penalty}
    return {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed if sampling.seed >= 0 else None,
        "extra_body": beyond or None,
    }
