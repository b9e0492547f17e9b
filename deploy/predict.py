"""The predictor for Replicate: the same `Assistant.reply` as the page, so that guard and limits hold; streamed.

    COG_PREDICT_TYPE_STUB=deploy/predict.py:Runner python -m cog.server.http

serves it on port 5000 with cog's package from PyPI, as in the image that `cog build` makes of cog.yaml.
"""

import threading
import time
from collections.abc import Iterator
from typing import Literal

from cog import BaseRunner, ConcatenateIterator, Input, streaming

from space.chat import Assistant, Caller, Reply
from space.guard.verify import LEAD, links
from space.prompt import Message
from space.settings import Settings

_SPEAKERS: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")


class Runner(BaseRunner):
    """Answers one question at a time. Ranges are not said here: `Sampling` owns them, and its sentence names them."""

    def setup(self) -> None:
        """Load the model. Raises `ModelError`, whose sentence cog shows as the reason that set-up failed."""
        self.assistant = Assistant(Settings.from_env())
        self.assistant.start()
        while self.assistant.state == "loading":
            time.sleep(0.05)
        _ = self.assistant.engine

    @streaming
    def run(
        self,
        question: str = Input(description="A health question, in plain words."),
        history: list[str] | None = Input(
            default=None, description="The conversation so far, oldest first: a question, its answer, a question, …"
        ),
        max_new_tokens: int | None = Input(default=None, description="Longest answer, in tokens."),
        temperature: float | None = Input(default=None, description="0 always takes the likeliest word."),
        top_p: float | None = Input(default=None, description="Only the likeliest words that reach this probability."),
        top_k: int | None = Input(default=None, description="Only this many of the likeliest words; 0 means all."),
        repetition_penalty: float | None = Input(default=None, description="Above 1, used words become less likely."),
        seed: int | None = Input(default=None, description="The same seed repeats the same answer."),
        locale: str = Input(default="", description="Language tag such as en-GB; chooses emergency numbers."),
    ) -> ConcatenateIterator[str]:
        """The guard's notice, the answer as it grows, and what is to be known of it, as Markdown. Left out: the model's own."""
        turns = [
            Message(role=_SPEAKERS[at % 2], content=text.partition(LEAD)[0]) for at, text in enumerate(history or [])
        ]
        values = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "repetition_penalty": repetition_penalty,
            "seed": seed,
        }
        cancel = threading.Event()
        try:
            yield from _said(
                self.assistant.reply(turns, question, values, cancel, Caller(route="replicate", locale=locale))
            )
        finally:
            cancel.set()


def _said(replies: Iterator[Reply]) -> Iterator[str]:
    """What each reply adds to the one before, and at the end what is to be known of the whole."""
    last = Reply()
    for reply in replies:
        if reply.verdict.notice and not last.verdict.notice:
            yield reply.verdict.notice
        if more := reply.text.removeprefix(last.text):
            yield more if last.text or not last.verdict.notice else f"\n\n{more}"
        last = reply
    if last.text and last.verify:
        yield links(last.verify)
    if last.notice:
        yield f"\n\n{last.notice}"
