"""`python app.py` as a person starts it: a process of its own, nothing configured, the embedded model, no network."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlparse

import httpx
import psutil
import pytest
from gradio_client import Client

from space.chat import Assistant
from space.engine import load
from space.settings import Settings
from tests.serving import app_running, serving, wait_until
from tests.test_api import hang

ROOT = Path(__file__).parent.parent
CANARY = "my neighbour Ottoline Fairweather has gout"
EMERGENCY = "Ottoline Fairweather has crushing chest pain and her left arm is numb"

HOOK = """
import os, sys

log = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
writes = os.O_WRONLY | os.O_RDWR

def hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        where = arguments[1] if event != "socket.getaddrinfo" else arguments[0]
        os.write(log, f"net {where[0] if isinstance(where, tuple) else where}\\n".encode())
    elif event == "open" and arguments[2] and arguments[2] & writes:
        os.write(log, f"write {arguments[0]}\\n".encode())

sys.addaudithook(hook)
"""
"""Python runs this before anything else: it notes every host that is looked up or connected to, and every file opened for writing."""

HERE = {"127.0.0.1", "localhost", "::1", "0.0.0.0", "b'localhost'", "b'127.0.0.1'", "None"}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "sitecustomize.py").write_text(HOOK)
    kept = {
        name: value for name, value in os.environ.items() if name in ("PATH", "VIRTUAL_ENV", "LANG", "LD_LIBRARY_PATH")
    }
    environment = kept | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(home),
        "AUDIT_LOG": str(home / "audit"),
    }
    with app_running(environment, home / "log") as (address, process):
        yield address, process, home


def test_a_fresh_machine_answers_a_health_question(app):
    address, _, _ = app
    body = httpx.post(f"{address}/answer", json={"text": "What are the symptoms of diabetes?"}, timeout=60).json()
    assert "thirst" in body["answer"]
    assert "diabetes" in body["answer"]
    assert body["finish_reason"] == "stop"
    assert body["model"]


def test_it_streams_to_gradios_client(app):
    address, _, _ = app
    job = Client(address, verbose=False).submit("What are the symptoms of diabetes?", api_name="/chat")
    assert "thirst" in job.result(60)
    texts = [output for output in job.outputs() if isinstance(output, str)]
    assert len(texts) > 1
    assert all(b.startswith(a) for a, b in pairwise(texts))


def test_follow_up_questions_use_the_history(app):
    address, _, _ = app
    first = httpx.post(f"{address}/answer", json={"text": "What are the symptoms of diabetes?"}, timeout=60).json()
    history = [
        {"role": "user", "content": "What are the symptoms of diabetes?"},
        {"role": "assistant", "content": first["answer"]},
    ]
    asked = {"text": "How is it treated?", "history": history}
    answer = httpx.post(f"{address}/answer", json=asked, timeout=60).json()["answer"]
    assert answer.startswith("Treatment for diabetes")


def noted(home, kind):
    lines = (home / "audit").read_text().splitlines()
    return {line.partition(" ")[2] for line in lines if line.startswith(f"{kind} ")}


def test_a_patients_words_are_nowhere_afterwards_and_no_other_host_heard_of_them(app):
    address, process, home = app
    connected = set()
    client = Client(address, verbose=False)
    for text in (CANARY, EMERGENCY, f"{CANARY} " * 5000):
        httpx.post(f"{address}/answer", json={"text": text}, timeout=60)
        httpx.post(
            f"{address}/answer",
            json={"text": "Is it serious?", "history": [{"role": "user", "content": text}]},
            timeout=60,
        )
        httpx.post(f"{address}/answer", json={"text": text, "temperature": "hot"}, timeout=60)
        httpx.post(f"{address}/answer", content=b'{"text": "' + text.encode(), timeout=60)
        client.predict(text, api_name="/chat")
        client.submit(text, api_name="/chat").cancel()
        connected |= {c.raddr.ip for c in psutil.Process(process.pid).net_connections("inet") if c.raddr}
    assert connected <= {"127.0.0.1", "::1"}
    assert noted(home, "net") <= HERE
    assert noted(home, "net"), "the hook is at work"
    for file in home.rglob("*"):
        if file.is_file():
            assert b"Fairweather" not in file.read_bytes(), file
    here = re.compile(rf"{home}/.*|/dev/.*|\d+|.*/__pycache__/.*")  # a number is a file that was open already
    elsewhere = {path for path in noted(home, "write") if not here.fullmatch(path)}
    assert elsewhere == set()


def test_a_bad_setting_brings_up_a_page_that_says_so():
    settings = Settings.from_env({"GENERATION_TIMEOUT": "soon"})
    with serving(load=load, problems=settings.problems) as address:
        health = wait_until(lambda: (r := httpx.get(f"{address}/health").json())["state"] == "failed" and r)
        assert "GENERATION_TIMEOUT is 'soon'" in health["reason"]
        assert httpx.get(address).status_code == 200


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc, which only Linux has")
def test_a_hundred_requests_half_of_them_broken_off_leave_no_thread_behind(app):
    """The real app; half of the readers stop or hang up at a random moment, eight at a time."""
    address, process, _ = app
    client, port, draw = Client(address, verbose=False), urlparse(address).port, random.Random(7)

    def whole():
        body = {"text": "What are the symptoms of asthma?"}
        while (response := httpx.post(f"{address}/answer", json=body, timeout=120)).status_code == 503:
            assert "try again" in response.json()["error"]  # those who broke off may still hold a place for a moment
            time.sleep(0.2)
        return response.json()["answer"]

    def stopped():
        job = client.submit("What is asthma?", api_name="/chat")
        time.sleep(draw.uniform(0, 0.3))
        job.cancel()

    def hung_up():
        with hang(f"http://127.0.0.1:{port}"):
            time.sleep(draw.uniform(0, 0.3))

    def threads():
        whole()  # idle workers of the server's pool end when the next request comes
        return len(list(Path(f"/proc/{process.pid}/task").iterdir()))

    def storm(kinds):
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda kind: (kind, kind()), kinds))

    storm([whole, stopped, hung_up] * 4)  # what a server starts once stays
    before = threads()
    kinds = [whole] * 50 + [stopped] * 25 + [hung_up] * 25
    draw.shuffle(kinds)
    answers = {answer for kind, answer in storm(kinds) if kind is whole}
    assert len(answers) == 1
    assert "asthma" in answers.pop()
    wait_until(lambda: threads() <= before, seconds=40)
    assert "asthma" in whole()


def test_the_assistant_holds_no_more_threads_than_places_once_loaded():
    before = threading.active_count()
    assistant = Assistant(Settings(), load)
    assistant.start()
    wait_until(lambda: assistant.state == "ready", seconds=60)
    for _ in range(3):
        replies = assistant.reply([], "What is asthma?")
        next(replies)
        replies.close()
    assert threading.active_count() == before + 1, "one at a time needs one"


def test_a_port_in_use_is_said_in_one_sentence(app):
    address, _, _ = app
    environment = os.environ | {"GRADIO_SERVER_PORT": str(urlparse(address).port)}
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "Cannot listen on 127.0.0.1" in done.stderr
    assert "set GRADIO_SERVER_PORT to a free port" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_ends_on_sigterm(app):
    _, process, home = app
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "Traceback" not in (home / "log").read_text()
