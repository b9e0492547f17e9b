"""The remote engine and what it is told: by a real server, llama.cpp's own, and by servers that misbehave; on loopback."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from space.engine import load
from space.engine.remote import RemoteEngine
from space.errors import GenerationFailed, ModelError
from space.prompt import conversation
from space.settings import Settings
from tests.engine.asking import GREEDY, answer
from tests.engine.conftest import CONTEXT
from tests.serving import free_port

pytestmark = pytest.mark.usefixtures("online")

QUESTION = conversation([], "What are the symptoms of diabetes?")


def test_what_a_server_says_of_its_model_is_taken_over(llama_server):
    engine = load(Settings(endpoint_url=llama_server))
    assert isinstance(engine, RemoteEngine)
    assert engine.context == CONTEXT
    assert "127.0.0.1" in engine.provenance.runs_on


@contextmanager
def server(models: str, chat: bytes = b""):
    """Answers every GET with `models`, and every POST with the events `chat`."""

    class Handler(BaseHTTPRequestHandler):
        def _send(self, body, kind):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self._send(models.encode(), "application/json")

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self._send(chat, "text/event-stream")

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


MODELS = '{"data": [{"id": "m", "owned_by": "somebody"}]}'
PIECE = b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Well"}}], "id": "1", "created": 1, "model": "m", "system_fingerprint": ""}\n\n'


def test_an_address_that_is_none():
    with pytest.raises(
        ModelError, match=r"ENDPOINT_URL is 'localhost:8000' but must be the http:// or https:// address"
    ):
        load(Settings(endpoint_url="localhost:8000"))


def test_nobody_there():
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ModelError, match=f"Nothing answers at ENDPOINT_URL {address}"):
        load(Settings(endpoint_url=address))


@pytest.mark.parametrize("said", ["<html>hello</html>", '{"data": []}', "[1, 2]"])
def test_what_answers_is_no_model_server(said):
    with server(said) as address, pytest.raises(ModelError, match="is no OpenAI-compatible server"):
        load(Settings(endpoint_url=address))


def test_it_goes_away_in_the_middle_of_the_answer():
    with server(MODELS, PIECE) as address:
        pieces = load(Settings(endpoint_url=address)).stream(QUESTION, GREEDY, threading.Event())
        assert next(pieces) == "Well"
        with pytest.raises(GenerationFailed, match="went away in the middle of the answer"):
            next(pieces)


def test_an_answer_that_makes_no_sense():
    with server(MODELS, b"data: {nonsense\n\n") as address:
        engine = load(Settings(endpoint_url=address))
        with pytest.raises(GenerationFailed, match="makes no sense"):
            answer(engine, QUESTION)


def test_it_is_gone_when_it_is_asked():
    with server(MODELS) as address:
        engine = load(Settings(endpoint_url=address))
    with pytest.raises(GenerationFailed, match="The model server did not answer"):
        answer(engine, QUESTION)


def test_offline_mode_is_said(monkeypatch):
    with server(MODELS) as address:
        engine = load(Settings(endpoint_url=address))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(GenerationFailed, match="offline mode is enabled"):
            answer(engine, QUESTION)
