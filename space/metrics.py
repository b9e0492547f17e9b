"""Counts of what is served, for Prometheus to fetch from /metrics. Off unless METRICS is set."""

from __future__ import annotations

from space.log import Request
from space.places import Places


class Metrics:
    """The counts of one assistant, fed with each finished request."""

    def __init__(self, places: Places) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = CollectorRegistry()  # not the library's own, which all assistants of a process would share
        self._requests = Counter(
            "medical_qa_requests", "Questions, by how they ended", ["route", "outcome"], registry=self._registry
        )
        self._tokens = Counter("medical_qa_tokens", "Tokens read and written", ["kind"], registry=self._registry)
        self._seconds = Histogram(
            "medical_qa_seconds",
            "Seconds from a question to the end of its answer",
            ["route"],
            buckets=(0.1, 0.3, 1, 3, 10, 30, 60, 120),
            registry=self._registry,
        )
        running = Gauge("medical_qa_running", "Answers being generated", registry=self._registry)
        running.set_function(lambda: places.taken()[0])
        waiting = Gauge("medical_qa_waiting", "Questions waiting for a place", registry=self._registry)
        waiting.set_function(lambda: places.taken()[1])

    def observe(self, done: Request) -> None:
        self._requests.labels(done.route, done.outcome).inc()
        self._seconds.labels(done.route).observe(done.seconds)
        self._tokens.labels("prompt").inc(done.prompt_tokens)
        self._tokens.labels("completion").inc(done.completion_tokens)

    def page(self) -> tuple[bytes, str]:
        """What /metrics answers, and its media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
