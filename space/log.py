"""What the server writes down: one line of JSON for each request, and for what goes wrong; on stderr, in UTC.

A line says who carried a request and what became of it, never a word that was typed or answered.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

_LOG = logging.getLogger("space")


@dataclass(frozen=True)
class Request:
    """A question that is over, in numbers."""

    id: str
    route: str
    engine: str
    """What computed it, e.g. "llama.cpp, cpu, Q4_0"; empty where no model was loaded."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    outcome: str
    """The answer's finish_reason, or the name of the error that the caller got."""


def set_up(level: str) -> None:
    """Write lines of this level (info, warning, error) and above."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    _LOG.handlers, _LOG.propagate = [handler], False
    _LOG.setLevel(level.upper())


def request(done: Request) -> None:
    """One line: info where there was an answer, a warning where there was an error."""
    level = logging.INFO if done.outcome.islower() else logging.WARNING
    _LOG.log(level, "request", extra={"values": asdict(done) | {"seconds": round(done.seconds, 3)}})


def failure(what: str, error: BaseException) -> None:
    """An error that was not foreseen: where it was raised. What it says is left out, as it may quote a visitor."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    _LOG.error("failure", extra={"values": {"what": what, "error": type(error).__name__, "where": where}})


def problem(sentence: str) -> None:
    """Something that the deployer should put right, as a sentence."""
    _LOG.error("problem", extra={"values": {"what": sentence}})


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps(line | getattr(record, "values", {}), ensure_ascii=False)
