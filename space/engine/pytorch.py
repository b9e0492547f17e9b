"""The engine on transformers: CUDA in bfloat16 or NF4, ZeroGPU, or any CPU.

The decoding loop is our own, thirty lines over transformers' model, cache and logits processors, because
`generate` cannot give what a chat in front of strangers needs: it runs in a thread that outlives its reader, and
draws from a random generator that all requests share. A generator that yields between tokens can simply be closed.
A test holds its greedy output equal to `generate`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from space.engine import Finish, Sampling, defaults
from space.engine.loading import first_line, load, out_of_memory
from space.engine.provenance import read
from space.errors import GenerationFailed
from space.prompt import Message
from space.settings import Settings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_PREFILL_CHUNK = 256
"""Prompt tokens read between two chances to cancel: about two seconds of a 1B model on two CPU cores."""


class PyTorchEngine:
    """A causal language model in `folder`, loaded for this machine. Raises `ModelError` where it cannot be."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.tokenizer, self.model = load(folder, settings)
        # The numbers of the endings: Gemma stops on <eos> and on <end_of_turn>.
        config = self.model.generation_config
        eos = config.eos_token_id if config.eos_token_id is not None else self.tokenizer.eos_token_id
        self._stop = frozenset(eos if isinstance(eos, list) else [eos])
        self.context = int(self.model.config.get_text_config().max_position_embeddings)
        self.sampling = defaults(config.to_dict(), self.context)
        self._decode = self._on_zero_gpu() if settings.zero_gpu else self._decode_here
        dtype = "NF4" if settings.load_in_4bit else str(self.model.dtype).removeprefix("torch.")
        self.provenance = read(folder, settings, runs_on=f"transformers, {self.model.device.type}, {dtype}")

    def _ids(self, messages: list[Message]) -> list[int]:
        # The template writes <bos> itself: tokenising inside it is what keeps it single.
        encoded = self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)
        return list(encoded["input_ids"])

    def check(self) -> None:
        """See `Engine.check`: the model is in this process."""

    def count(self, messages: list[Message]) -> int:
        return len(self._ids(messages))

    def stream(
        self, messages: list[Message], sampling: Sampling, cancel: threading.Event
    ) -> Generator[str, None, Finish]:
        """See `Engine.stream`. Raises `GenerationFailed` when torch does: no memory, NaN, an id without an embedding."""
        prompt = self._ids(messages)
        text = _Text(self.tokenizer)
        done = 0
        try:
            for token in self._decode(prompt, sampling):
                if cancel.is_set():
                    return Finish("cancelled", len(prompt), done)
                if token is None:  # a part of the prompt was read
                    yield ""
                    continue
                if token in self._stop:
                    return Finish("stop", len(prompt), done)
                done += 1
                yield text.step(token)
        except (MemoryError, RuntimeError, IndexError) as error:
            raise GenerationFailed(_sentence(error)) from error
        return Finish("length", len(prompt), done)

    def _decode_here(self, prompt: list[int], sampling: Sampling) -> Generator[int | None, None, None]:
        """Token ids one by one, stop tokens included; None after each part of the prompt but the last."""
        import torch
        from transformers import DynamicCache

        device = self.model.device
        processors = _processors(sampling)
        random = torch.Generator(device).manual_seed(sampling.seed) if sampling.seed >= 0 else None
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([prompt], device=device)
        fresh = ids
        # Inference mode is entered for each step: held across a `yield` it would leak into the reader's thread.
        for _ in range(sampling.max_new_tokens):
            while fresh.shape[1] > _PREFILL_CHUNK:
                with torch.inference_mode():
                    self.model(fresh[:, :_PREFILL_CHUNK], past_key_values=cache, use_cache=True, logits_to_keep=1)
                fresh = fresh[:, _PREFILL_CHUNK:]
                yield None
            with torch.inference_mode():
                output = self.model(fresh, past_key_values=cache, use_cache=True, logits_to_keep=1)
                fresh = _choose(processors(ids, output.logits[:, -1].float()), sampling, random)
                ids = torch.cat([ids, fresh], dim=1)
            yield int(fresh)

    def _on_zero_gpu(self) -> Any:
        """The same loop inside ZeroGPU's worker process, for as many seconds as the answer may take."""
        import spaces

        def decode(prompt: list[int], sampling: Sampling) -> Generator[int | None, None, None]:
            yield from self._decode_here(prompt, sampling)

        return spaces.GPU(duration=zero_gpu_seconds)(decode)


class _Text:
    """The text of tokens that come one by one.

    Not tokenizers' `DecodeStream`: it raises where byte tokens do not make UTF-8, which a hot model may well write.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._shown: list[int] = []
        self._pending: list[int] = []

    def step(self, token: int) -> str:
        """The text that `token` completes; empty while a character still lacks bytes, of which it has at most four."""
        self._pending.append(token)
        # Decoded behind the tokens before them: some tokenizers drop the space at the beginning of what they decode.
        before, after = self._decode(self._shown), self._decode(self._shown + self._pending)
        if after == before:  # a control token, which is not shown
            self._pending.pop()
            return ""
        if after.endswith("\ufffd") and len(self._pending) < 4:
            return ""
        self._shown, self._pending = self._pending, []
        return after[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def zero_gpu_seconds(prompt: list[int], sampling: Sampling) -> int:
    """Seconds of a ZeroGPU slice to ask for: 5 to get going, 1,000 prompt tokens or 20 answer tokens a second.

    The platform checks 1.5 times this against the visitor's quota, so it must not be generous; it refuses > 120.
    """
    return min(120, 5 + len(prompt) // 1000 + sampling.max_new_tokens // 20)


def _processors(sampling: Sampling) -> Any:
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    chain = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        chain.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature > 0:
        chain.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_k:
            chain.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            chain.append(TopPLogitsWarper(float(sampling.top_p)))
    return chain


def _choose(scores: torch.Tensor, sampling: Sampling, random: torch.Generator | None) -> torch.Tensor:
    """The next token of scores [1, vocabulary], as [1, 1]. Raises RuntimeError on NaN."""
    if scores.isnan().any():
        raise RuntimeError("the scores are not numbers")
    if sampling.temperature == 0:
        return scores.argmax(dim=-1, keepdim=True)
    return scores.softmax(dim=-1).multinomial(1, generator=random)


def _sentence(error: BaseException) -> str:
    if out_of_memory(error):
        return "The machine ran out of memory while answering; please ask for a shorter answer or start a new conversation."
    return f"The model stopped with an error ({first_line(error)}); please try again."
