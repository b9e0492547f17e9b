"""From a question to an answer: `Assistant.reply`, the one path for page, API and MCP alike.

Knows neither Gradio nor torch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from space.engine import Engine, load
from space.errors import BadRequest, Busy, ModelError, NotReady, SpaceError, TextTooLong
from space.guard import Verdict, screen
from space.guard.answer import cautions
from space.guard.verify import verify
from space.prompt import Message, conversation, fit
from space.settings import Settings

MAX_CHARACTERS = 100_000
"""Messages beyond this are refused before they are tokenised; no context here holds as much."""

_ENDINGS = {
    "length": "The answer reached its longest length and was cut. Raise “Longest answer” in the settings, or ask it to go on.",
    "timeout": "The answer took too long and was ended here. Ask for less at a time, or try again when fewer people are asking.",
    "cancelled": "The answer was stopped here.",
}


@dataclass(frozen=True)
class Reply:
    """An answer so far. The last one of `Assistant.reply` has a `finish_reason`."""

    text: str = ""
    notice: str = ""
    """What the visitor should know about this answer, as sentences; empty where there is nothing."""
    finish_reason: Literal["", "stop", "length", "timeout", "cancelled", "guarded", "failed"] = ""
    """`guarded`: the guard answered in the model's place; `failed`: after a guard's notice there was no model to answer."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    """What the guard found; its notice belongs above the answer."""
    verify: tuple[tuple[str, str], ...] = ()
    """Names and addresses of pages on which the answer can be checked."""


class Assistant:
    """The model and its places. Loads on `start`; answers, or says why not, from then on.

    `load_engine` is the seam for tests: what `space.engine.load` is in production.
    """

    def __init__(self, settings: Settings, load_engine: Callable[[Settings], Engine] = load) -> None:
        self.settings = settings
        self._load = load_engine
        self._engine: Engine | None = None
        self._failure: SpaceError | None = None
        self._line = _Line(settings.max_running, settings.max_waiting)

    def start(self) -> None:
        """Load the model beside the server, so that the page is up at once.

        On ZeroGPU it is loaded before: the platform looks for its functions when the page starts.
        """
        if self.settings.zero_gpu:
            self._load_engine()
        else:
            threading.Thread(target=self._load_engine, name="load-model", daemon=True).start()

    def _load_engine(self) -> None:
        try:
            self._engine = self._load(self.settings)
        except SpaceError as error:
            self._failure = error
            print(f"The model could not be loaded. {error}", flush=True)
        except Exception as error:
            # Whatever else a stranger's model folder makes the libraries raise: the page must say it, not hang.
            self._failure = ModelError(
                f"The model could not be loaded ({type(error).__name__}: {error}); check MODEL_ID."
            )
            raise

    @property
    def state(self) -> Literal["loading", "ready", "failed"]:
        return "ready" if self._engine else "failed" if self._failure else "loading"

    @property
    def engine(self) -> Engine:
        """The loaded engine. Raises `NotReady`, with the reason, where there is none."""
        if self._engine is None:
            raise self._failure or NotReady("The model is still being loaded; please try again in a moment.")
        return self._engine

    def reply(
        self,
        history: Sequence[Message],
        text: str,
        sampling: Mapping[str, Any] | None = None,
        cancel: threading.Event | None = None,
        locale: str = "",
    ) -> Iterator[Reply]:
        """The answer to `text` after `history`, each time longer; the last one is finished.

        The guard comes first, whatever the model's state: where it finds something, the first reply holds its notice, and
        an error of the model's is said in the last reply instead of raised. `sampling` holds the values that differ from
        the model's own; `locale`, a language tag or Accept-Language header, chooses telephone numbers. Setting `cancel`,
        or closing this iterator, ends generation within a token. Raises `SpaceError`, with a sentence for the visitor.
        """
        question = text.strip()
        if not question:
            raise BadRequest("The message is empty; please write a question.")
        if len(question) > MAX_CHARACTERS:
            raise TextTooLong(
                f"Your message has {len(question):,} characters and at most {MAX_CHARACTERS:,} are read; please shorten it."
            )
        verdict = screen(question, [m["content"] for m in history if m["role"] == "user"], locale)
        reply = Reply(verdict=verdict, verify=verify(question))
        if verdict.kind == "none":
            yield from self._answer(history, question, sampling, cancel, reply)
            return
        if not verdict.may_answer:
            yield replace(reply, finish_reason="guarded")
            return
        yield reply
        try:
            for longer in self._answer(history, question, sampling, cancel, reply):
                reply = longer
                yield reply
        except SpaceError as error:
            yield replace(reply, notice=str(error), finish_reason="failed")

    def _answer(
        self,
        history: Sequence[Message],
        question: str,
        sampling: Mapping[str, Any] | None,
        cancel: threading.Event | None,
        start: Reply,
    ) -> Iterator[Reply]:
        """The model's answer, as it grows from `start`."""
        engine, cancel = self.engine, cancel or threading.Event()
        chosen = engine.sampling.changed(sampling or {})
        if chosen.max_new_tokens > engine.context // 2:
            raise BadRequest(
                f"max_new_tokens is {chosen.max_new_tokens} but must be at most {engine.context // 2} for this model."
            )
        messages, dropped = fit(conversation(history, question), engine.context - chosen.max_new_tokens, engine.count)
        start = replace(start, notice=_dropped_notice(dropped))
        with self._line.place() as ahead:
            while people := ahead():
                if cancel.is_set():
                    yield replace(start, notice=_ENDINGS["cancelled"], finish_reason="cancelled")
                    return
                yield replace(start, notice=f"Waiting for a free place; {people} ahead of you.")
            yield from self._generate(engine.stream(messages, chosen, cancel), start, cancel)

    def _generate(self, pieces: Generator[str, None, Any], reply: Reply, cancel: threading.Event) -> Iterator[Reply]:
        deadline = time.monotonic() + self.settings.generation_timeout
        try:
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    finish = end.value
                    break
                reply = replace(reply, text=reply.text + piece, completion_tokens=reply.completion_tokens + bool(piece))
                yield reply
                if time.monotonic() > deadline:
                    yield _finished(reply, "timeout")
                    return
        finally:
            cancel.set()
            pieces.close()
        yield replace(
            _finished(reply, finish.reason),
            prompt_tokens=finish.prompt_tokens,
            completion_tokens=finish.completion_tokens,
        )


def _finished(reply: Reply, reason: Any) -> Reply:
    said = cautions(reply.text, ended=reason == "stop")  # a cut is said already
    notice = " ".join(filter(None, [reply.notice, _ENDINGS.get(reason, ""), *said]))
    return replace(reply, finish_reason=reason, notice=notice)


def _dropped_notice(turns: int) -> str:
    if not turns:
        return ""
    what = "The oldest question and answer" if turns == 1 else f"The {turns} oldest questions and answers"
    return f"{what} of this conversation no longer fit and were left out."


class _Line:
    """First come, first served: `running` places, `waiting` more in line, everybody else is told that it is busy."""

    def __init__(self, running: int, waiting: int) -> None:
        self._running, self._room = running, running + waiting
        self._tickets: list[object] = []
        self._moved = threading.Condition()

    @contextmanager
    def place(self) -> Iterator[Callable[[], int]]:
        """A place for as long as the context lasts; yields a function that waits up to 0.25 s and says how many are ahead.

        0 means: go. Raises `Busy` when the line is full.
        """
        ticket = object()

        def ahead() -> int:
            with self._moved:
                if people := self._ahead(ticket):
                    self._moved.wait(0.25)
                    people = self._ahead(ticket)
                return people

        with self._moved:
            if len(self._tickets) >= self._room:
                raise Busy("Everybody is asking at once and no place is free; please try again in a little while.")
            self._tickets.append(ticket)
        try:
            yield ahead
        finally:
            with self._moved:
                self._tickets.remove(ticket)
                self._moved.notify_all()

    def _ahead(self, ticket: object) -> int:
        return max(0, self._tickets.index(ticket) - self._running + 1)
