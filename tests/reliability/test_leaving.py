"""Who goes away frees what was computed for him, whichever way he asked; who never reads keeps it no longer than allowed."""

import time
from contextlib import closing

import httpx
import pytest

from tests.fakes import FakeEngine
from tests.reliability.asking import answer, begin, gradio, mcp
from tests.serving import serving, wait_until

TOKEN = 0.1


@pytest.fixture(scope="module")
def served():
    engine = FakeEngine("word " * 400, seconds_a_word=TOKEN)
    with serving(engine, mcp=True, max_running=1, max_waiting=0) as address:
        yield engine, address


@pytest.mark.parametrize("ask", [answer, gradio, mcp])
def test_a_closed_connection_ends_generation_within_a_token_and_half_a_second(served, ask):
    engine, address = served
    for _ in range(3):
        with closing(ask(address)):
            wait_until(lambda: engine.running == 1)
        left = time.monotonic()
        wait_until(lambda: engine.running == 0)
        assert time.monotonic() - left < TOKEN + 0.5


def test_the_only_place_is_free_again(served):
    engine, address = served
    with closing(gradio(address)):
        wait_until(lambda: engine.running == 1)
    wait_until(lambda: engine.running == 0)
    body = httpx.post(f"{address}/answer", json={"text": "hi", "max_new_tokens": 16}, timeout=30).json()
    assert body["finish_reason"] == "length"


def test_what_nobody_reads_ends_at_the_deadline():
    engine = FakeEngine("word " * 400, seconds_a_word=TOKEN)
    with serving(engine, generation_timeout=1, max_running=1, max_waiting=0) as address:
        begin(address)
        wait_until(lambda: engine.running == 1)
        began = time.monotonic()
        wait_until(lambda: engine.running == 0, seconds=5)
        assert time.monotonic() - began < 1 + TOKEN + 0.5
