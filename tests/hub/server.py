"""A Hub on 127.0.0.1 that speaks the real one's HTTP protocol, for the unmodified clients through HF_ENDPOINT.

Here: HTTP, tokens, the log of requests, and faults on demand. What is served are lists of routes: those of repositories.py and
pulls.py, and whatever else is added to `Hub.routes`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

OWNER = "hf_owner"
"""The token of the account `owner`, which may write to owner/…, and read all that exists."""
READER = "hf_reader"
"""The token of an account that may read private repositories and accepted every licence."""
STRANGER = "hf_stranger"
"""The token of an account that may and did neither."""


@dataclass(frozen=True)
class Account:
    """Whose token it is; `reads`: private repositories too, and the gated ones, whose licences it accepted."""

    name: str
    reads: bool = True

    def writes(self, repository: str) -> bool:
        return repository.startswith(f"{self.name}/")


@dataclass(frozen=True)
class Request:
    """What a client sent; `path` is still quoted and has no query."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """By their names in lower case."""
    body: bytes = field(repr=False)
    account: Account | None

    @property
    def line(self) -> str:
        return f"{self.method} {unquote(self.path)}"

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = field(default=b"", repr=False)
    headers: dict[str, str] = field(default_factory=dict)


def answer(value: Any = None, status: int = 200, **headers: str) -> Answer:
    """JSON; a header's name is written with underscores."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **named})


class Refusal(Exception):
    """Ends a request with the Hub's way of saying no: a status, a code that its client knows, and a message."""

    def __init__(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        said = {"X_Error_Code": code, "X_Error_Message": message or code}
        named = {name: text for name, text in said.items() if text} | headers
        self.answer = answer({"error": message or code}, status, **named)


class Route(NamedTuple):
    """What answers a method (GET stands for HEAD too) and a path that the pattern matches from end to end."""

    method: str
    path: str
    handle: Callable[[Request, dict[str, str]], Answer]
    """Gets the request and the pattern's groups, unquoted; raises `Refusal`."""


Effect = Literal["cut", "lose", "half", "corrupt"]
"""What a fault does. cut: the connection ends in the middle of what the client sends, and nothing is done. lose: it is done,
and the connection ends before the answer. half: the connection ends in the middle of the answer's body. corrupt: the answer
is as long as it should be, of other bytes."""


@dataclass
class Fault:
    """What goes wrong with requests in whose line `pattern` is found: with `times` of them, after the first `skip`."""

    pattern: str
    effect: Effect | Answer | Callable[[Answer], Answer]
    skip: int
    times: int

    def meets(self, line: str) -> bool:
        if self.times <= 0 or not re.search(self.pattern, line):
            return False
        self.skip -= 1
        self.times -= self.skip < 0
        return self.skip < 0


class Hub:
    """What is served, every request so far, and what is to go wrong."""

    def __init__(self, port: int) -> None:
        from tests.hub.pulls import Pulls
        from tests.hub.repositories import Repositories

        self.endpoint = f"http://127.0.0.1:{port}"
        self.storage = f"http://localhost:{port}"
        """Where large files go and come from: another host, as on the real Hub, so that no token may go there."""
        self.accounts = {
            OWNER: Account("owner"),
            READER: Account("reader"),
            STRANGER: Account("stranger", reads=False),
        }
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.repositories = Repositories(self)
        self.routes: list[Route] = [
            Route("GET", "/api/whoami-v2", self._whoami),
            *self.repositories.routes(),
            *Pulls(self).routes(),
        ]
        self._lock = threading.Lock()

    def fault(
        self,
        pattern: str,
        effect: Effect | Answer | Refusal | Callable[[Answer], Answer],
        *,
        skip: int = 0,
        times: int = 10**9,
    ) -> None:
        """From now on this goes wrong; a `Refusal` is what such requests are answered with. `well` ends it."""
        self.faults.append(Fault(pattern, effect.answer if isinstance(effect, Refusal) else effect, skip, times))

    def well(self) -> None:
        """Nothing goes wrong any more."""
        self.faults.clear()

    def fault_of(self, line: str) -> Fault | None:
        """What is to go wrong with a request: METHOD /path."""
        with self._lock:
            return next((fault for fault in self.faults if fault.meets(line)), None)

    def received(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Request:
        """A request, from now on in the log."""
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        account = self.accounts.get(headers.get("authorization", "").removeprefix("Bearer "))
        request = Request(method, url.path, query, headers, body, account)
        with self._lock:
            self.requests.append(request)
        return request

    def answer(self, request: Request) -> Answer:
        if "authorization" in request.headers and request.account is None:
            return Refusal(401, message="Invalid credentials in Authorization header").answer
        method = "GET" if request.method == "HEAD" else request.method
        for route in self.routes:
            if route.method == method and (found := re.fullmatch(route.path, request.path)):
                groups = {name: unquote(text) for name, text in found.groupdict().items() if text is not None}
                try:
                    with self._lock:  # one at a time: a request is done or not done
                        return route.handle(request, groups)
                except Refusal as refusal:
                    return refusal.answer
        return Refusal(404, message=f"There is no route for {request.line}").answer

    def _whoami(self, request: Request, _: dict[str, str]) -> Answer:
        if request.account is None:
            raise Refusal(401, message="Invalid username or password.")
        return answer({"type": "user", "name": request.account.name, "orgs": [], "auth": {"type": "access_token"}})


@contextmanager
def hub() -> Iterator[Hub]:
    """A Hub that listens until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fault = served.fault_of(f"{self.command} {unquote(urlsplit(self.path).path)}")
            effect = fault.effect if fault else None
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length // 2)
            if effect != "cut":
                body += self._chunks() if "Transfer-Encoding" in self.headers else self.rfile.read(length - len(body))
            headers = {name.lower(): text for name, text in self.headers.items()}
            request = served.received(self.command, self.path, headers, body)
            if effect == "cut":
                return
            reply = effect if isinstance(effect, Answer) else served.answer(request)
            if effect == "lose":
                return
            if effect == "corrupt":
                reply = replace(reply, body=bytes(byte ^ 1 for byte in reply.body))
            elif callable(effect):
                reply = effect(reply)
            self.send_response(reply.status)
            for name, text in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body[: len(reply.body) // 2] if effect == "half" else reply.body)

        do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

        def _chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, *_: object) -> None:
            """Says nothing; `Hub.requests` holds them."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Hub(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
