"""A machine that knows no Hub but the one on 127.0.0.1: its environment, and `python -m train` on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.hub.server import OWNER

ROOT = Path(__file__).parent.parent.parent
_LOOPBACK = Path(__file__).parent / "loopback"

_PROCESS = """
import contextlib, io, json, os, resource, sys, time
slept = []
time.sleep = lambda seconds: slept.append(seconds)  # nobody waits here
from train.__main__ import main
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for line in sys.stdin:
    arguments, token, largest = json.loads(line)
    os.environ["HF_TOKEN"] = token
    slept.clear()
    out, err = io.StringIO(), io.StringIO()
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, unlimited[1]))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    print(json.dumps([status, out.getvalue(), err.getvalue(), slept]), flush=True)
"""


class Done(NamedTuple):
    """What a command ended with, said, and waited for (seconds that it did not really wait)."""

    status: int
    out: str
    err: str
    slept: list[float]


def environment(endpoint: str, home: Path, **more: str) -> dict[str, str]:
    """Of a process whose Hub is `endpoint`, and which ends if it turns to another host."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    return inherited | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPATH": str(_LOOPBACK),
        **more,
    }


class Machine:
    """One process for many commands, as importing the libraries takes longer than they do."""

    def __init__(self, endpoint: str, home: Path, **more: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROCESS],
            cwd=ROOT,
            env=environment(endpoint, home, **more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object, token: str = OWNER, largest: int = 0) -> Done:
        """`python -m train …`; `largest`: bytes beyond which a file cannot be written, as on a full disk."""
        self._process.stdin.write(json.dumps([[str(one) for one in arguments], token, largest]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process has ended; see its stderr"
        return Done(*json.loads(line))

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)
