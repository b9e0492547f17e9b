"""A real server for tests: `app.py`'s own way of starting, on a free port, with any assistant."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from app import serve
from space.chat import Assistant
from space.settings import Settings
from tests.fakes import loader

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def serving(
    engine: Any = None, *, load: Callable[[Settings], Any] | None = None, port: int = 0, **settings: Any
) -> Iterator[str]:
    """The address of a page whose assistant has this engine (or gets it from `load`), until the context ends."""
    chosen = replace(Settings(**settings), server_port=port or free_port())
    page, address = serve(Assistant(chosen, load or loader(engine)))
    try:
        yield address.rstrip("/")
    finally:
        page.close(verbose=False)


@contextmanager
def app_running(
    environment: Mapping[str, str],
    log: Path,
    seconds: float = 60,
    command: Sequence[str] = (sys.executable, "app.py"),
    tree: Path = ROOT,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`python app.py` as a process of its own, once it is healthy: its address and itself. What it prints goes to `log`."""
    port = free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=tree,
            env={**environment, "GRADIO_SERVER_PORT": str(port)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"

    def healthy() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{address}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(healthy, seconds)
        yield address, process
    finally:
        process.kill()
        process.wait()


def wait_until(true: Callable[[], Any], seconds: float = 15) -> Any:
    """What `true()` returns once it is true; fails after a generous while."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return value
