"""A Hub on 127.0.0.1: as much of its protocol as `snapshot_download` speaks, for the unmodified client.

Answers are the real Hub's: a repository one may not see is 401 without a token and 404 with one; a gated one is
listed for everybody and its files are refused; a token nobody issued is refused before anything else.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

READER = "hf_reader"
"""The token of an account that may read private repositories and accepted every licence."""
STRANGER = "hf_stranger"
"""The token of an account that may and did neither."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"

_API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/(?:revision|(?P<tree>tree))/(?P<revision>[^/?]+)")
_FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class Repository:
    """A model repository with one commit, on `main`."""

    files: dict[str, bytes] = field(default_factory=lambda: {"config.json": b"{}"})
    private: bool = False
    gated: bool = False
    status: int = 200
    """What every request is answered with, instead of an answer, where it is not 200; 0: the connection is closed."""
    broken: frozenset[str] = frozenset()
    """Files that are listed, but whose download is answered with status 500."""


class Hub:
    """The repositories by name, and every request so far as (path, token)."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str]] = []

    def add(self, name: str, **repository: object) -> Repository:
        self.repositories[name] = Repository(**repository)
        return self.repositories[name]

    def fetched(self, name: str) -> set[str]:
        """The files of a repository that were asked for."""
        paths = (_FILE.match(path) for path, _ in self.requests)
        return {path["file"] for path in paths if path and path["name"] == name}

    def answer(self, method: str, path: str, token: str) -> tuple[int, dict[str, str], bytes]:
        """The status, the headers and the body for a request."""
        self.requests.append((path, token))
        if token not in ("", READER, STRANGER):
            return _refusal(401, message="Invalid credentials in Authorization header")
        wanted = _API.match(path) or _FILE.match(path)
        repository = self.repositories.get(wanted["name"]) if wanted else None
        if repository is None or (repository.private and token != READER):
            return _refusal(404, "RepoNotFound") if token else _refusal(401, message="Invalid username or password.")
        if repository.status != 200:
            return _refusal(repository.status, message="No more requests" if repository.status == 429 else "")
        if wanted["revision"] not in ("main", COMMIT):
            return _refusal(404, "RevisionNotFound")
        if "file" in wanted.re.groupindex:
            if repository.gated and token != READER:
                return _refusal(403 if token else 401, "GatedRepo")
            if method == "GET" and wanted["file"] in repository.broken:
                return _refusal(500)
            body = repository.files[wanted["file"]]
            return 200, {"ETag": f'"{sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}, body
        if wanted["tree"]:
            listed = [
                {"type": "file", "path": path, "size": len(body), "oid": sha1(body).hexdigest()}
                for path, body in repository.files.items()
            ]
            return 200, {}, json.dumps(listed).encode()
        return 200, {}, json.dumps({"id": wanted["name"], "sha": COMMIT}).encode()


def _refusal(status: int, code: str = "", message: str = "") -> tuple[int, dict[str, str], bytes]:
    headers = {"X-Error-Code": code, "X-Error-Message": message or code}
    return status, {name: text for name, text in headers.items() if text}, json.dumps({"error": message}).encode()


@contextmanager
def hub() -> Iterator[Hub]:
    """A Hub that listens until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, headers, body = served.answer(self.command, self.path, token)
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            for name, text in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, text)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Says nothing; `Hub.requests` holds them."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
