"""From a question to an answer: `Assistant.reply`, the one path for page, API and MCP alike.

Knows neither Gradio nor torch.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from anyio import CapacityLimiter, to_thread

from space import log
from space.engine import Engine, Finish, load
from space.engine.provenance import Provenance
from space.errors import BadRequest, GenerationFailed, ModelError, NotReady, SpaceError, TextTooLong
from space.guard import Verdict, screen
from space.guard.answer import cautions
from space.guard.verify import verify
from space.limit import Limit
from space.metrics import Metrics
from space.places import Pieces, Place, Places
from space.prompt import Message, conversation, fit
from space.settings import Settings

MAX_CHARACTERS = 100_000
"""Messages beyond this are refused before they are tokenised; no context here holds as much."""
_READERS = 8
"""Threads for whole answers beyond those that may run or wait: to tell the others at once that it is busy."""

_ENDINGS = {
    "length": "The answer reached its longest length and was cut. Raise “Longest answer” in the settings, or ask it to go on.",
    "timeout": "The answer took too long and was ended here. Ask for less at a time, or try again when fewer people are asking.",
    "cancelled": "The answer was stopped here.",
    "shutdown": "The server is being stopped and the answer was cut here. Please ask again in a moment.",
}


@dataclass(frozen=True)
class Caller:
    """Who asks, and which way."""

    route: str = ""
    address: str = ""
    """What RATE_LIMIT counts by."""
    locale: str = ""
    """A language tag or Accept-Language header, which chooses telephone numbers."""
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    """Names the request in the log."""


def caller(request: Any, route: str) -> Caller:
    """Who sends this HTTP request, Gradio's or Starlette's."""
    address = request.client.host if request.client else ""
    return Caller(route, address, request.headers.get("accept-language", ""))


@dataclass(frozen=True)
class Reply:
    """An answer so far. The last one of `Assistant.reply` has a `finish_reason`."""

    text: str = ""
    notice: str = ""
    """What the visitor should know about this answer, as sentences; empty where there is nothing."""
    finish_reason: Literal["", "stop", "length", "timeout", "cancelled", "shutdown", "guarded", "failed"] = ""
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
        self._broken = False
        self._ends = math.inf
        self._places = Places(settings.max_running, settings.max_waiting)
        self._readers = CapacityLimiter(settings.max_running + settings.max_waiting + _READERS)
        self._limit = Limit(settings.rate_limit) if settings.rate_limit else None
        self.metrics = Metrics(self._places) if settings.metrics else None

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
            log.problem(f"The model could not be loaded. {error}")
        except Exception as error:
            # Whatever else a stranger's model folder makes the libraries raise: the page must say it, not hang.
            self._failure = ModelError(
                f"The model could not be loaded ({type(error).__name__}: {error}); check MODEL_ID."
            )
            raise

    def stop(self, seconds: float) -> None:
        """Refuse questions from now on; running answers may go on for `seconds`, and are then cut and say so.

        Returns when all have ended, soon after that time at the latest.
        """
        self._ends = time.monotonic() + seconds
        while any(self._places.taken()) and time.monotonic() < self._ends + 1:
            time.sleep(0.05)

    @property
    def state(self) -> Literal["loading", "ready", "failed", "stopping"]:
        if self._ends < math.inf:
            return "stopping"
        return "ready" if self._engine else "failed" if self._failure else "loading"

    @property
    def engine(self) -> Engine:
        """The loaded engine. Raises `NotReady`, with the reason, where there is none."""
        if self._ends < math.inf:
            raise NotReady("The server is being stopped; please try again in a moment.")
        if self._engine is None:
            raise self._failure or NotReady("The model is still being loaded; please try again in a moment.")
        return self._engine

    @property
    def provenance(self) -> Provenance | None:
        """Where the loaded model comes from; None before there is one."""
        return self._engine.provenance if self._engine else None

    def check(self) -> None:
        """Raises `SpaceError`, with the reason, where a question could not be answered now. May take two seconds."""
        engine = self.engine
        if self._places.stuck():
            raise ModelError("The model has stopped answering and holds every place; restart the server.")
        if self._broken:
            engine.check()

    async def answer(
        self,
        history: Sequence[Message],
        text: str,
        sampling: Mapping[str, Any] | None,
        cancel: threading.Event,
        caller: Caller,
    ) -> Reply:
        """The last of `reply`, read in a thread; sets `cancel` when the task that waits for it is cancelled."""

        def read() -> Reply:
            last = Reply()
            for reply in self.reply(history, text, sampling, cancel, caller):
                last = reply
            return last

        try:
            return await to_thread.run_sync(read, abandon_on_cancel=True, limiter=self._readers)
        finally:
            cancel.set()

    def reply(
        self,
        history: Sequence[Message],
        text: str,
        sampling: Mapping[str, Any] | None = None,
        cancel: threading.Event | None = None,
        caller: Caller | None = None,
    ) -> Iterator[Reply]:
        """The answer to `text` after `history`, each time longer; the last one is finished.

        The guard comes first, whatever the model's state: where it finds something, the first reply holds its notice, and
        an error of the model's is said in the last reply instead of raised. `sampling` holds the values that differ from
        the model's own. Setting `cancel`, or closing this iterator, ends generation within a token. Raises `SpaceError`,
        with a sentence for the visitor. However it ends, that is logged.
        """
        caller, cancel, last = caller or Caller(), cancel or threading.Event(), Reply()
        start, outcome = time.monotonic(), "cancelled"  # what it is where this iterator is closed
        try:
            with closing(self._screened(history, text, sampling, cancel, caller)) as replies:
                for last in replies:
                    yield last
            outcome = last.finish_reason
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            self._note(caller, last, time.monotonic() - start, outcome)

    def _note(self, caller: Caller, last: Reply, seconds: float, outcome: str) -> None:
        engine = self.provenance.runs_on if self.provenance else ""
        done = log.Request(
            caller.id, caller.route, engine, last.prompt_tokens, last.completion_tokens, seconds, outcome
        )
        log.request(done)
        if self.metrics:
            self.metrics.observe(done)

    def _screened(
        self,
        history: Sequence[Message],
        text: str,
        sampling: Mapping[str, Any] | None,
        cancel: threading.Event,
        caller: Caller,
    ) -> Generator[Reply, None, None]:
        """The guard's notice and, where it lets it, the model's answer."""
        question = text.strip()
        if not question:
            raise BadRequest("The message is empty; please write a question.")
        if len(question) > MAX_CHARACTERS:
            raise TextTooLong(
                f"Your message has {len(question):,} characters and at most {MAX_CHARACTERS:,} are read; please shorten it."
            )
        verdict = screen(question, [m["content"] for m in history if m["role"] == "user"], caller.locale)
        reply = Reply(verdict=verdict, verify=verify(question))
        if verdict.kind == "none":
            yield from self._answer(history, question, sampling, cancel, caller, reply)
            return
        if not verdict.may_answer:
            yield replace(reply, finish_reason="guarded")
            return
        yield reply
        try:
            for longer in self._answer(history, question, sampling, cancel, caller, reply):
                reply = longer
                yield reply
        except SpaceError as error:
            yield replace(reply, notice=str(error), finish_reason="failed")

    def _answer(
        self,
        history: Sequence[Message],
        question: str,
        sampling: Mapping[str, Any] | None,
        cancel: threading.Event,
        caller: Caller,
        start: Reply,
    ) -> Generator[Reply, None, None]:
        """The model's answer, as it grows from `start`."""
        engine = self.engine
        if self._limit:
            self._limit.count(caller.address)
        chosen = engine.sampling.changed(sampling or {})
        if chosen.max_new_tokens > engine.context // 2:
            raise BadRequest(
                f"max_new_tokens is {chosen.max_new_tokens} but must be at most {engine.context // 2} for this model."
            )
        with self._places.join() as place:
            messages, dropped = fit(
                conversation(history, question), engine.context - chosen.max_new_tokens, engine.count
            )
            start = replace(start, notice=_dropped_notice(dropped))
            while people := place.ahead():
                if cancel.is_set():
                    yield replace(start, notice=_ENDINGS["cancelled"], finish_reason="cancelled")
                    return
                engine = self.engine  # raises where the server is being stopped
                yield replace(start, notice=f"Waiting for a free place; {people} ahead of you.")
            yield from self._generate(place, engine.stream(messages, chosen, cancel), start, cancel)

    def _generate(self, place: Place, pieces: Pieces, reply: Reply, cancel: threading.Event) -> Iterator[Reply]:
        deadline = time.monotonic() + self.settings.generation_timeout

        def over() -> str:
            """Why the answer ends before the model ends it; empty while it may go on."""
            now = time.monotonic()
            late = "timeout" if now > deadline else "shutdown" if now > self._ends else ""
            return "cancelled" if cancel.is_set() else late

        try:
            while not (reason := over()):
                step = place.next(pieces)
                if isinstance(step, str):
                    reply = replace(
                        reply, text=reply.text + step, completion_tokens=reply.completion_tokens + bool(step)
                    )
                    yield reply
                elif step:
                    yield self._whole(reply, step)
                    return
        except SpaceError:
            self._broken = True
            raise
        except Exception as error:
            # Whatever a model's libraries raise must reach the visitor as a sentence.
            self._broken = True
            log.failure("The model stopped with an error.", error)
            raise GenerationFailed(
                f"The model stopped with an error ({type(error).__name__}); please try again."
            ) from error
        finally:
            cancel.set()
        if reason == "timeout" and not reply.text:
            self._broken = True
            raise GenerationFailed(
                f"The model did not begin to answer in {self.settings.generation_timeout:g} seconds; please try again later."
            )
        yield _finished(reply, reason)

    def _whole(self, reply: Reply, finish: Finish) -> Reply:
        if finish.reason == "stop" and not reply.text.strip():
            raise GenerationFailed("The model had nothing to say; please ask in other words.")
        self._broken = False
        return replace(
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
