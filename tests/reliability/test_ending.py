"""The process is told to end, or is killed: in the middle of an answer, as processes are."""

import os
import signal
import threading
import time

import httpx
import pytest

from tests.reliability.asking import begin, read, slow_server
from tests.serving import app_running, wait_until

KEPT = ("PATH", "VIRTUAL_ENV", "LANG", "LD_LIBRARY_PATH")


@pytest.fixture
def app(tmp_path):
    """`python app.py` with a model server that writes ten words a second, for a minute."""
    with slow_server(0.1) as (upstream, _):
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment |= {"HOME": str(tmp_path), "ENDPOINT_URL": upstream, "ENDPOINT_CONTEXT": "4096", "METRICS": "1"}
        with app_running(environment, tmp_path / "log") as (address, process):
            yield address, process, tmp_path / "log"


def in_thread(ask):
    """The list in which what `ask()` returns will stand, and the thread that is to put it there."""
    told = []
    thread = threading.Thread(target=lambda: told.append(ask()))
    thread.start()
    return told, thread


def test_told_to_end_it_marks_running_answers_as_cut_refuses_others_and_is_gone_within_ten_seconds(app):
    address, process, log = app
    event = begin(address)
    page, first = in_thread(lambda: read(address, event))
    api, second = in_thread(lambda: httpx.post(f"{address}/answer", json={"text": "hi"}, timeout=30))
    wait_until(lambda: "medical_qa_running 2.0" in httpx.get(f"{address}/metrics").text)
    time.sleep(1)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: httpx.get(f"{address}/health").json()["state"] == "stopping")
    refused = httpx.post(f"{address}/answer", json={"text": "hi"})
    assert refused.status_code == 503
    assert "being stopped" in refused.json()["error"]
    assert int(refused.headers["Retry-After"]) > 0
    assert process.wait(20) == 0
    assert time.monotonic() - told < 10
    for thread in (first, second):
        thread.join(5)
    answer = api[0].json()
    assert answer["answer"].startswith("word0 word1 word2")
    assert answer["finish_reason"] == "shutdown"
    assert "the answer was cut here" in answer["notice"]
    kind, said = page[0]
    assert kind == "complete"
    assert "word1" in said
    assert "the answer was cut here" in said
    assert "Traceback" not in log.read_text()
