"""Jobs of the local Hub: a job's command really runs, in bash, with its volumes as folders and its secrets as variables.

What would take a machine hours is stood in for: `pip` writes down what it was to install, and `python` what it was to run, in
which folder and with which token, and ends with the status that the test chose.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.hub.server import Answer, Refusal, Request, Route, answer
from tests.hub.spaces import events

if TYPE_CHECKING:
    from tests.hub.server import Hub

MACHINES = {"cpu-basic": None, "a10g-small": "1", "a10g-largex2": "2", "h200": "1"}
"""Flavors, with their GPUs. `h200` takes money that the account does not have."""

_PYTHON = """#!/bin/bash
echo "python $* in $(basename "$PWD") as ${HF_TOKEN:0:3}…"
[[ "$*" == *"$FAILS"* ]] && { echo "it went wrong"; exit 3; }
exit 0
"""


@dataclass
class Job:
    spec: dict[str, Any]
    lines: list[str]
    status: int
    folder: Path
    """Where the command worked."""


class Jobs:
    """All jobs, and the routes to them."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self._hub, self._home = hub, home
        self.known: dict[str, Job] = {}
        self.fails = "nothing"
        """The part of a command by which `python` knows that it is to fail."""
        (home / "bin").mkdir()
        for name, text in (("python", _PYTHON), ("pip", '#!/bin/bash\necho "pip $*"\n')):
            (home / "bin" / name).write_text(text)
            (home / "bin" / name).chmod(0o755)
        job = r"/api/jobs/(?P<owner>[\w-]+)/(?P<id>[\w-]+)"
        hub.routes[:0] = [
            Route("GET", "/api/jobs/hardware", lambda *_: answer([_machine(name) for name in MACHINES])),
            Route("POST", r"/api/jobs/(?P<owner>[\w-]+)", self._run),
            Route("GET", job, lambda request, at: answer(self._shown(at["id"]))),
            Route("GET", f"{job}/logs", lambda request, at: events(self.known[at["id"]].lines)),
        ]

    def _run(self, request: Request, at: dict[str, str]) -> Answer:
        spec = request.json()
        if request.account is None or request.account.name != at["owner"]:
            raise Refusal(403, message="You may not start jobs here")
        if spec["flavor"] == "h200":
            raise Refusal(402, message="Pre-paid credit balance is insufficient")
        name = f"job{len(self.known)}"
        home = self._home / name
        script = spec["command"][2].replace("/work", str(home / "work"))
        for volume in spec["volumes"]:
            place = home / volume["mountPath"].strip("/")
            script = script.replace(volume["mountPath"], str(place))
            for path, body in (
                self._hub.repositories.get(volume["source"], volume["type"]).files(volume["revision"]).items()
            ):
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_bytes(body)
        done = subprocess.run(
            [*spec["command"][:2], script, *spec["command"][3:]],
            env=spec["environment"]
            | spec["secrets"]
            | {"PATH": f"{self._home / 'bin'}:{os.environ['PATH']}", "FAILS": self.fails},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.known[name] = Job(spec, done.stdout.splitlines(), done.returncode, home / "work")
        return answer(self._shown(name, stage="SCHEDULING"))

    def _shown(self, name: str, stage: str = "") -> dict[str, Any]:
        job = self.known[name]
        status = {"stage": stage or ("ERROR" if job.status else "COMPLETED")}
        message = {"message": f"Job failed with exit code: {job.status}"} if job.status and not stage else {}
        return {"id": name, "owner": {"id": "1", "name": "owner", "type": "user"}, "status": status | message}


def _machine(name: str) -> dict[str, Any]:
    gpus = MACHINES[name]
    accelerator = {"type": "gpu", "model": "A10G", "quantity": gpus, "vram": "24 GB", "manufacturer": "Nvidia"}
    return {
        "name": name,
        "prettyName": f"Machine {name}",
        "cpu": "4 vCPU",
        "ram": "15 GB",
        "accelerator": accelerator if gpus else None,
        "unitCostMicroUSD": 16667,
        "unitCostUSD": 0.016667,
        "unitLabel": "minute",
    }
