"""Spaces of the local Hub: variables, secrets, hardware and logs; and the app, which a commit builds and really starts.

Building is what a platform does that has every package already: a requirement that is not installed here in that version
fails the build. The app gets the Space's variables and secrets and nothing else of this process's environment.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from tests.hub.server import Answer, Refusal, Request, Route, answer
from tests.serving import free_port

if TYPE_CHECKING:
    from tests.hub.server import Hub

FREE = ("zero-a10g", "t4-small")
"""Hardware that the account `owner` gets; for any other it must pay first."""


@dataclass
class Space:
    """What a Space is besides its repository."""

    hardware: str
    port: int = field(default_factory=free_port)
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    stage: str = "NO_APP_FILE"
    built: str = ""
    """The commit of the newest build."""
    build_log: str = ""
    folder: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def run_log(self) -> str:
        return (self.folder / ".log").read_text() if self.folder and (self.folder / ".log").is_file() else ""


class Spaces:
    """All Spaces by name, and the routes to them, which come before the Hub's own."""

    def __init__(self, hub: Hub, home: Path, python: str = sys.executable) -> None:
        self._hub, self._home = hub, home
        self.python = python
        """What apps are started with."""
        self.known: dict[str, Space] = {}
        self.access: dict[str, dict[str, Any]] = {"owner": {"role": "write"}, "reader": {"role": "read"}}
        """What an account's token may do, as the Hub says it."""
        hub.routes[:0] = self._routes()

    def add(self, name: str, files: dict[str, bytes]) -> Space:
        """A Space that somebody made with these files, and that is not running."""
        self._hub.repositories.add(name, files, kind="space")
        self.known[name] = Space("cpu-basic")
        return self.known[name]

    def close(self) -> None:
        for space in self.known.values():
            self._stop(space)

    def __getitem__(self, name: str) -> Space:
        return self.known[name]

    def _routes(self) -> list[Route]:
        api = r"/api/(?P<kind>space)s/(?P<name>[\w.-]+/[\w.-]+)"
        return [
            Route("GET", "/api/whoami-v2", self._whoami),
            Route("POST", "/api/repos/create", self._create),
            Route("GET", api, self._info),
            Route("POST", f"{api}/commit/(?P<revision>main)", self._commit),
            *(
                Route(method, f"{api}/(?P<what>variables|secrets)", self._values)
                for method in ("GET", "POST", "DELETE")
            ),
            Route("POST", f"{api}/hardware", self._hardware),
            Route("GET", f"{api}/runtime", self._runtime),
            Route("POST", f"{api}/restart", self._restart),
            Route("GET", f"{api}/logs/(?P<what>build|run)", self._log),
        ]

    def _of(self, request: Request, at: dict[str, str]) -> Space:
        """The Space, for those who may change it."""
        self._hub.repositories._written(request, at)
        return self.known[at["name"]]

    def _whoami(self, request: Request, at: dict[str, str]) -> Answer:
        known = json.loads(self._hub._whoami(request, at).body)
        return answer(known | {"auth": {"type": "access_token", "accessToken": self.access[known["name"]]}})

    # ---- the repository, and what comes with it ---------------------------------------------------------------------

    def _create(self, request: Request, at: dict[str, str]) -> Answer:
        asked = request.json()
        if asked.get("type") == "space" and request.account:
            if asked.get("hardware", "cpu-basic") not in FREE:
                raise Refusal(402, message="Subscribe to PRO to host Spaces on this hardware")
            done = self._hub.repositories._create(request, at)
            self.known[f"{asked['organization'] or request.account.name}/{asked['name']}"] = Space(asked["hardware"])
            return done
        return self._hub.repositories._create(request, at)

    def _info(self, request: Request, at: dict[str, str]) -> Answer:
        known = json.loads(self._hub.repositories._info(request, at).body)
        space = self.known[at["name"]]
        return answer(known | {"sdk": "gradio", "host": space.host, "runtime": _shown(space)})

    def _commit(self, request: Request, at: dict[str, str]) -> Answer:
        done = self._hub.repositories._commit(request, at)
        space = self._of(request, at)
        self._stop(space)
        space.stage = "BUILDING"
        return done

    # ---- settings ---------------------------------------------------------------------------------------------------

    def _values(self, request: Request, at: dict[str, str]) -> Answer:
        space = self._of(request, at)
        values = space.variables if at["what"] == "variables" else space.secrets
        if request.method == "POST":
            asked = request.json()
            values[asked["key"]] = {**asked, "updatedAt": "2026-01-01T00:00:00.000Z"}
        if request.method == "DELETE":
            values.pop(request.json()["key"], None)
        if request.method != "GET" and space.process:
            self._start(space)
        hidden = ("key", "value") if at["what"] == "secrets" else ("key",)
        return answer({k: {name: text for name, text in v.items() if name not in hidden} for k, v in values.items()})

    def _hardware(self, request: Request, at: dict[str, str]) -> Answer:
        space, asked = self._of(request, at), request.json()["flavor"]
        if asked not in FREE:
            raise Refusal(402, message="You must have a valid payment method on file")
        space.hardware = asked
        return answer(_shown(space))

    def _restart(self, request: Request, at: dict[str, str]) -> Answer:
        space = self._of(request, at)
        self._stop(space)
        space.stage = "BUILDING"
        return answer(_shown(space))

    # ---- running ----------------------------------------------------------------------------------------------------

    def _runtime(self, request: Request, at: dict[str, str]) -> Answer:
        """What the Space is doing. Looked at again, it has gone on."""
        space = self._of(request, at)
        shown = answer(_shown(space))
        if space.stage == "BUILDING":
            self._build(at["name"], space)
        elif space.stage == "APP_STARTING":
            assert space.process
            if space.process.poll() is not None:
                space.stage = "RUNTIME_ERROR"
            elif _listens(space.port):
                space.stage = "RUNNING"
        return shown

    def _build(self, name: str, space: Space) -> None:
        repository = self._hub.repositories.get(name, "space")
        space.built, space.build_log = repository.head, "--> pip install -r requirements.txt\n"
        files = repository.files()
        for line in files["requirements.txt"].decode().splitlines():
            if line and not line.startswith("#") and not _installed(Requirement(line)):
                space.build_log += f"ERROR: No matching distribution found for {line}\n"
                space.stage = "BUILD_ERROR"
                return
        space.folder = Path(tempfile.mkdtemp(dir=self._home))
        for path, body in files.items():
            (space.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (space.folder / path).write_bytes(body)
        self._start(space)

    def _start(self, space: Space) -> None:
        self._stop(space)
        assert space.folder
        given = {key: value["value"] for values in (space.variables, space.secrets) for key, value in values.items()}
        kept = {
            name: os.environ[name]
            for name in ("PATH", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
            if name in os.environ
        }
        where = {"HOME": str(space.folder), "HF_ENDPOINT": self._hub.endpoint, "GRADIO_SERVER_PORT": str(space.port)}
        with (space.folder / ".log").open("wb") as log:
            space.process = subprocess.Popen(
                [self.python, "app.py"],
                cwd=space.folder,
                env=kept | where | given,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        space.stage = "APP_STARTING"

    def _stop(self, space: Space) -> None:
        if space.process:
            space.process.kill()
            space.process.wait()
            space.process = None

    def _log(self, request: Request, at: dict[str, str]) -> Answer:
        space = self._of(request, at)
        return events((space.build_log if at["what"] == "build" else space.run_log).splitlines(keepends=True))


def _shown(space: Space) -> dict[str, Any]:
    hardware = {"current": space.hardware if space.process else None, "requested": space.hardware}
    return {"stage": space.stage, "hardware": hardware, "gcTimeout": 172800, "sha": space.built}


def events(lines: list[str]) -> Answer:
    """A log, as server-sent events."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    body = "".join(f"data: {json.dumps({'data': line, 'timestamp': now})}\n\n" for line in lines)
    return Answer(200, body.encode(), {"Content-Type": "text/event-stream"})


def _installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name))
    except PackageNotFoundError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
