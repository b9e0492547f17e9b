"""An error that nobody foresaw tells nobody what a patient typed. (That nothing else does is in tests/test_app.py.)"""

from __future__ import annotations

import httpx
import pytest
from gradio_client import Client

from tests.fakes import FakeEngine
from tests.serving import serving
from tests.test_app import CANARY


class Broken(FakeEngine):
    """Fails with an error that nobody foresaw and that quotes what it was given."""

    def stream(self, messages, sampling, cancel):
        yield "Well,"
        raise RuntimeError(f"bad input {messages}")


def by_http(address):
    return httpx.post(f"{address}/answer", json={"text": CANARY}, timeout=60).text


def by_gradio(address):
    return str(Client(address, verbose=False).predict(CANARY, api_name="/chat"))


def by_too_few_values(address):
    """Gradio's own complaint about them repeats the values."""
    body = {"data": [CANARY], "session_hash": "x", "fn_index": 0}
    return httpx.post(f"{address}/gradio_api/queue/join", json=body, timeout=60).text + listened(address)


def listened(address):
    return httpx.get(f"{address}/gradio_api/queue/data?session_hash=x", timeout=60).text


@pytest.mark.parametrize(
    "way",
    [
        by_http,
        by_gradio,
        by_too_few_values,
    ],
    ids=lambda way: way.__name__,
)
def test_an_error_that_nobody_foresaw_does_not_print_or_send_what_was_typed(capfd, way):
    with serving(Broken()) as address:
        said = way(address)
    assert "Fairweather" not in said
    printed = "".join(capfd.readouterr())
    assert "Fairweather" not in printed
    assert "Traceback" not in printed
