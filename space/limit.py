"""How many questions one visitor may ask in a while: RATE_LIMIT, counted by address. Off unless it is set."""

from __future__ import annotations

import math
import time

from space.errors import TooMany


class Limit:
    """At most `rate`, e.g. "20/minute", for each visitor; the count begins anew when that time is over."""

    def __init__(self, rate: str) -> None:
        from limits import parse
        from limits.storage import MemoryStorage
        from limits.strategies import FixedWindowRateLimiter

        self._rate = parse(rate)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())  # the one that forgets who asks no more

    def count(self, visitor: str) -> None:
        """Note one more question. Raises `TooMany`."""
        if not self._limiter.hit(self._rate, visitor):
            free = self._limiter.get_window_stats(self._rate, visitor).reset_time
            seconds = max(1, math.ceil(free - time.time()))
            raise TooMany(
                f"You have asked as often as this server allows; please try again in {seconds} seconds.", seconds
            )
