"""Ways to ask a running server and to go away again, over real sockets."""

import json
import secrets
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import httpx

from tests.serving import free_port, wait_until

ROOT = Path(__file__).parent.parent.parent
CALLED = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": {"question": "hi"}}}


def post(address, path, body, accept="*/*"):
    """A socket that has sent this request and has read nothing."""
    url, content = urlparse(address), json.dumps(body).encode()
    sock = socket.create_connection((url.hostname, url.port), timeout=60)
    head = f"POST {path} HTTP/1.1\r\nHost: {url.netloc}\r\nAccept: {accept}\r\nContent-Type: application/json\r\n"
    sock.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return sock


def answer(address):
    return post(address, "/answer", {"text": "hi"})


def mcp(address):
    return post(address, "/gradio_api/mcp/", CALLED, "application/json, text/event-stream")


def gradio(address):
    """A socket that reads the events of a question put to Gradio's endpoint."""
    url, event = urlparse(address), begin(address)
    sock = socket.create_connection((url.hostname, url.port), timeout=60)
    sock.sendall(f"GET /gradio_api/call/chat/{event} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
    return sock


def begin(address, question="hi"):
    """The event of a question put to Gradio's endpoint and not read."""
    body = {"data": [question, *[None] * 5, -1], "session_hash": secrets.token_hex(8)}
    return httpx.post(f"{address}/gradio_api/call/chat", json=body).json()["event_id"]


def read(address, event):
    """What Gradio's endpoint said last of this event, as text, and how it ended."""
    kind, said = "", ""
    with httpx.stream("GET", f"{address}/gradio_api/call/chat/{event}", timeout=60) as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and line != "data: null":
                said = line.removeprefix("data: ")
    return kind, said


@contextmanager
def slow_server(seconds_a_word, port=0):
    """The address and the process of a model server that writes a word each so many seconds."""
    port = port or free_port()
    command = [sys.executable, "-m", "tests.reliability.slow_server", str(port), str(seconds_a_word)]
    process, address = subprocess.Popen(command, cwd=ROOT), f"http://127.0.0.1:{port}"

    def up():
        try:
            return httpx.get(f"{address}/v1/models").is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(up)
        yield address, process
    finally:
        process.kill()
        process.wait()
