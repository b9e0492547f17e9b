"""The one fake: an engine at the seam of `space.engine.Engine`, with queued answers and a known speed."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

from space.engine import Finish, Sampling
from space.engine.provenance import Provenance
from space.prompt import Message


class FakeEngine:
    """Answers each request with the next of `answers` (the last one for ever), a word a piece; records what it got.

    An answer that is an exception is raised after the first word. `gate`, when given, must be set for a word to come.
    """

    def __init__(self, *answers: str | Exception, seconds_a_word: float = 0.0, context: int = 1024) -> None:
        self.answers = list(answers) or ["A calm answer."]
        self.seconds_a_word = seconds_a_word
        self.context = context
        self.sampling = Sampling(max_new_tokens=min(512, context // 2), temperature=0.0)
        self.provenance = Provenance(model="fake/model", revision="abc123", licence="mit")
        self.requests: list[tuple[list[Message], Sampling]] = []
        self.running = self.most_running = self.ended = 0
        self._lock = threading.Lock()

    def check(self) -> None:
        pass

    def count(self, messages: list[Message]) -> int:
        return sum(len(message["content"].split()) for message in messages)

    def stream(
        self, messages: list[Message], sampling: Sampling, cancel: threading.Event
    ) -> Generator[str, None, Finish]:
        with self._lock:
            self.requests.append((messages, sampling))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        words = ["Well,"] if isinstance(answer, Exception) else answer.split(" ")
        try:
            for position, word in enumerate(words):
                if cancel.is_set():
                    return Finish("cancelled", self.count(messages), position)
                if position >= sampling.max_new_tokens:
                    return Finish("length", self.count(messages), position)
                time.sleep(self.seconds_a_word)
                yield word if position == 0 else " " + word
            if isinstance(answer, Exception):
                raise answer
            return Finish("stop", self.count(messages), len(words))
        finally:
            with self._lock:
                self.running -= 1
                self.ended += 1


def loader(engine: Any) -> Any:
    """A `load_engine` for `Assistant` that returns this engine."""
    return lambda settings: engine
