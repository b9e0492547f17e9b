"""The engine fails in every way it can; the visitor gets a sentence soon, and the next one an answer or the reason."""

import json
import os
import signal
import threading
import time

import httpx
import pytest

from space.engine.remote import RemoteEngine
from space.errors import GenerationFailed
from tests.fakes import FakeEngine
from tests.reliability.asking import begin, read, slow_server
from tests.serving import serving, wait_until


def ask(address):
    start = time.monotonic()
    response = httpx.post(f"{address}/answer", json={"text": "hi"}, timeout=30)
    return response, time.monotonic() - start


class Faulty(FakeEngine):
    """Ends without saying how where `endless`."""

    endless = False

    def stream(self, messages, sampling, cancel):
        finish = yield from super().stream(messages, sampling, cancel)
        return None if self.endless else finish


class Stalled(FakeEngine):
    """Says a word where `begins`, then nothing, until it may."""

    def __init__(self):
        super().__init__("fine")
        self.begins, self.may = False, threading.Event()

    def stream(self, messages, sampling, cancel):
        if not self.may.is_set():
            if self.begins:
                yield "Well,"
            self.may.wait(60)
        return (yield from super().stream(messages, sampling, cancel))


@pytest.fixture(scope="module")
def faulty():
    engine = Faulty()
    with serving(engine, max_running=1, max_waiting=0) as address:
        yield engine, address


@pytest.fixture(scope="module")
def stalling():
    engine = Stalled()
    with serving(engine, generation_timeout=1, max_running=1, max_waiting=0) as address:
        yield engine, address


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (RuntimeError("secret words"), "RuntimeError"),
        (MemoryError(), "MemoryError"),
        (GenerationFailed("It rains in; try again."), "It rains in"),
        ("", "nothing to say"),
        (None, "without saying how"),
    ],
    ids=["an error of a library", "no memory", "its own sentence", "not a word", "no end"],
)
def test_a_fault_is_a_sentence_for_everybody_and_the_next_question_is_answered(faulty, fault, words):
    engine, address = faulty
    engine.endless = fault is None
    engine.answers = ["no end" if fault is None else fault] * 2 + ["fine"]
    response, seconds = ask(address)
    assert response.status_code == 503
    assert words in response.json()["error"]
    assert "secret" not in response.text
    assert seconds < 5
    kind, said = read(address, begin(address))
    assert (kind, words in said) == ("complete", True), "the page must go on"
    engine.endless = False
    assert ask(address)[0].json()["answer"] == "fine"
    assert httpx.get(f"{address}/health").status_code == 200


def test_a_stalled_engine_is_given_up_at_the_deadline_and_keeps_its_place_until_it_comes_back(stalling, monkeypatch):
    monkeypatch.setattr("space.places._STUCK", 0.5)
    engine, address = stalling
    response, seconds = ask(address)
    assert (response.status_code, seconds < 2) == (503, True)
    assert "did not begin to answer in 1 seconds" in response.json()["error"]
    assert "no place is free" in ask(address)[0].json()["error"], "the engine is computing still"
    health = wait_until(lambda: (r := httpx.get(f"{address}/health")).status_code == 503 and r.json())
    assert "holds every place; restart the server" in health["reason"]
    engine.may.set()
    assert wait_until(lambda: (r := ask(address)[0]).is_success and r.json()["answer"] == "fine")
    assert httpx.get(f"{address}/health").status_code == 200


def test_an_answer_that_stalls_in_the_middle_is_marked_as_cut(stalling):
    engine, address = stalling
    engine.begins, engine.may = True, threading.Event()
    response, seconds = ask(address)
    assert (response.json()["answer"], response.json()["finish_reason"]) == ("Well,", "timeout")
    assert "took too long" in response.json()["notice"]
    assert seconds < 2
    engine.may.set()


@pytest.mark.usefixtures("online")
def test_a_model_server_killed_in_the_middle_is_said_and_health_knows_until_it_is_back():
    with slow_server(0.05) as (upstream, process):
        port = int(upstream.rsplit(":", 1)[1])
        with serving(load=RemoteEngine, endpoint_url=upstream, endpoint_context=4096) as address:
            wait_until(lambda: httpx.get(f"{address}/health").status_code == 200)
            event = begin(address)
            time.sleep(0.5)
            killed = time.monotonic()
            os.kill(process.pid, signal.SIGKILL)
            kind, said = read(address, event)
            assert time.monotonic() - killed < 5
            assert kind == "complete"
            assert "word1" in said, "what was written stays"
            assert "please try again" in json.loads(said)[0][-1]["metadata"]["title"]
            response, seconds = ask(address)
            assert response.status_code == 503
            assert "model server did not answer" in response.json()["error"]
            assert seconds < 5
            health = httpx.get(f"{address}/health")
            assert (health.status_code, "did not answer" in health.json()["reason"]) == (503, True)
            with slow_server(0, port):
                wait_until(lambda: httpx.get(f"{address}/health").status_code == 200)
                assert "word599" in httpx.post(f"{address}/answer", json={"text": "hi"}, timeout=30).json()["answer"]


def test_a_long_text_or_history_is_refused_with_its_count_or_cut_in_whole_turns_and_said_within_a_second(faulty):
    engine, address = faulty
    engine.answers = ["fine"]
    for body, status, words in [
        ({"text": "word " * 19_000}, 413, "19,0"),
        ({"text": "x" * 100_001}, 413, "100,001 characters"),
        ({"text": "x" * 1_000_001}, 413, "1,000,000 bytes"),
        ({"text": "hi", "history": [{"role": "user", "content": "x" * 1_000_000}]}, 413, "1,000,000 bytes"),
    ]:
        start = time.monotonic()
        response = httpx.post(f"{address}/answer", json=body)
        assert (response.status_code, words in response.json()["error"]) == (status, True)
        assert time.monotonic() - start < 1
    turn = [{"role": "user", "content": "why " * 60}, {"role": "assistant", "content": "because " * 60}]
    start = time.monotonic()
    response = httpx.post(f"{address}/answer", json={"text": "hi", "history": turn * 800})
    assert time.monotonic() - start < 1
    assert "oldest questions and answers of this conversation no longer fit" in response.json()["notice"]
