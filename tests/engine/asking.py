"""One whole answer of an engine, for the tests of all of them."""

import threading

from space.engine import Sampling

GREEDY = Sampling(max_new_tokens=40, temperature=0.0)


def answer(engine, messages, sampling=GREEDY, cancel=None):
    """The whole text and the `Finish`."""
    ends = []

    def pieces():
        ends.append((yield from engine.stream(messages, sampling, cancel or threading.Event())))

    return "".join(pieces()), ends[0]
