"""Who may ask the model now, who waits, who is sent away; and the threads in which it computes, one for each place."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import cast

from space.engine import Finish
from space.errors import Busy, GenerationFailed

_SLICE = 0.1
"""Seconds between two looks at whether an answer is still wanted, while its engine computes."""
_STUCK = 10
"""Seconds after which an engine that nobody waits for any more counts as stuck."""

Pieces = Generator[str, None, Finish]


class Places:
    """First come, first served: `running` places, `waiting` more in line, everybody else is told that it is busy."""

    def __init__(self, running: int, waiting: int) -> None:
        self._running, self._room = running, running + waiting
        self._taken: list[Place] = []
        self._left_behind: dict[Place, float] = {}
        self._moved = threading.Condition()
        self.workers = ThreadPoolExecutor(running, "engine")

    def join(self) -> Place:
        """A place at the end of the line; leave it by `with`. Raises `Busy` when the line is full."""
        with self._moved:
            if len(self._taken) >= self._room:
                raise Busy("Everybody is asking at once and no place is free; please try again in a little while.")
            self._taken.append(place := Place(self))
        return place

    def ahead(self, place: Place) -> int:
        """Waits up to 0.25 s for its turn and says how many are ahead; 0 means: go."""
        with self._moved:
            if self._ahead(place):
                self._moved.wait(0.25)
            return self._ahead(place)

    def _ahead(self, place: Place) -> int:
        return max(0, self._taken.index(place) - self._running + 1)

    def leave(self, place: Place) -> None:
        with self._moved:
            self._taken.remove(place)
            self._left_behind.pop(place, None)
            self._moved.notify_all()

    def leave_behind(self, place: Place) -> None:
        """Nobody waits for this place's engine any more, but it computes still."""
        with self._moved:
            self._left_behind[place] = time.monotonic()

    def taken(self) -> tuple[int, int]:
        """How many run and how many wait."""
        people = len(self._taken)
        return min(people, self._running), max(0, people - self._running)

    def stuck(self) -> bool:
        """Whether engines that do not come back hold every place."""
        with self._moved:
            since = list(self._left_behind.values())
        return sum(time.monotonic() - left > _STUCK for left in since) >= self._running


class Place:
    """One asker's place, and the engine's answer to him as it is computed.

    Steps are computed in another thread, so that nobody waits for longer than he wants for an engine that does not come
    back. It keeps the place until it does.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._pieces: Pieces | None = None
        self._step: Future[str | Finish] | None = None

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        if self._step is None:
            self._end()
        else:
            self._places.leave_behind(self)
            self._step.add_done_callback(self._end)

    def _end(self, _: object = None) -> None:
        try:
            if self._pieces:
                self._pieces.close()
        finally:
            self._places.leave(self)

    def ahead(self) -> int:
        return self._places.ahead(self)

    def next(self, pieces: Pieces) -> str | Finish | None:
        """The next piece, or how the answer ended; None where it has not come in a tenth of a second: ask again.

        Raises what the engine raises.
        """
        self._pieces = pieces
        if self._step is None:
            # In the asker's context: ZeroGPU finds there whose quota it is.
            self._step = self._places.workers.submit(copy_context().run, _step, pieces)
        if not wait([self._step], _SLICE).done:
            return None
        step, self._step = self._step, None
        return step.result()


def _step(pieces: Pieces) -> str | Finish:
    try:
        return next(pieces)
    except StopIteration as end:
        if end.value is None:
            raise GenerationFailed("The model stopped without saying how; please try again.") from None
        return cast(Finish, end.value)
