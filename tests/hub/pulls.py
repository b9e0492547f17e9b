"""Pull requests: opened with a commit or empty, looked at, and merged into `main`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.hub.repositories import API, Repository
from tests.hub.server import Answer, Refusal, Request, Route, answer

if TYPE_CHECKING:
    from tests.hub.server import Hub


@dataclass
class Pull:
    """A pull request; its commits are on the branch `refs/pr/<number>`."""

    number: int
    title: str
    author: str
    base: str
    """The commit of `main` that it was opened on."""
    status: str = "draft"
    merged: str | None = None


def ref(number: int) -> str:
    return f"refs/pr/{number}"


class Pulls:
    def __init__(self, hub: Hub) -> None:
        self._repositories = hub.repositories
        self._known: dict[tuple[str, str], list[Pull]] = {}
        hub.repositories.opens = self.open

    def routes(self) -> list[Route]:
        one = rf"{API}/discussions/(?P<number>\d+)"
        return [
            Route("POST", f"{API}/discussions", self._create),
            Route("GET", f"{API}/discussions", self._list),
            Route("GET", one, self._details),
            Route("POST", f"{one}/merge", self._merge),
            Route("POST", f"{one}/status", self._status),
        ]

    def open(self, repository: Repository, title: str, author: str, status: str = "open") -> Pull:
        """A pull request whose branch is at `main`."""
        known = self._known.setdefault((repository.kind, repository.name), [])
        pull = Pull(len(known) + 1, title, author, repository.head, status)
        known.append(pull)
        repository.branches[ref(pull.number)] = repository.head
        return pull

    def _create(self, request: Request, at: dict[str, str]) -> Answer:
        repository, asked = self._repositories._readable(request, at), request.json()
        if request.account is None or not asked["pullRequest"]:
            raise Refusal(401 if request.account is None else 400, message="Only pull requests, by an account")
        return answer({"num": self.open(repository, asked["title"], request.account.name, "draft").number})

    def _list(self, request: Request, at: dict[str, str]) -> Answer:
        repository = self._repositories._readable(request, at)
        found = [_shown(repository, pull) for pull in self._known.get((repository.kind, repository.name), [])]
        return answer({"count": len(found), "start": 0, "discussions": found})

    def _details(self, request: Request, at: dict[str, str]) -> Answer:
        repository = self._repositories._readable(request, at)
        pull = self._pull(repository, at)
        changes = {"base": "refs/heads/main", "mergeCommitId": pull.merged}
        more = {"events": [], "changes": changes, "filesWithConflicts": False, "diff": ""}
        return answer(_shown(repository, pull) | more)

    def _merge(self, request: Request, at: dict[str, str]) -> Answer:
        repository = self._repositories._written(request, at)
        pull = self._pull(repository, at)
        base, asked = repository.at(pull.base).tree, repository.at(ref(pull.number)).tree
        changed = {path: blob for path, blob in asked.items() if base.get(path) != blob}
        tree = {path: blob for path, blob in repository.at("main").tree.items() if path in asked or path not in base}
        pull.merged, pull.status = repository.commit(tree | changed, f"{pull.title} (#{pull.number})").oid, "merged"
        return answer({})

    def _status(self, request: Request, at: dict[str, str]) -> Answer:
        pull = self._pull(self._repositories._written(request, at), at)
        pull.status = request.json()["status"]
        event = {"id": "1", "type": "status-change", "createdAt": _WHEN, "author": {"name": pull.author}}
        return answer({"newStatus": event | {"data": {"status": pull.status}}})

    def _pull(self, repository: Repository, at: dict[str, str]) -> Pull:
        known = self._known.get((repository.kind, repository.name), [])
        if not 0 < int(at["number"]) <= len(known):
            raise Refusal(404, "EntryNotFound")
        return known[int(at["number"]) - 1]


_WHEN = "2026-01-01T00:00:00.000Z"


def _shown(repository: Repository, pull: Pull) -> dict[str, Any]:
    return {
        "num": pull.number,
        "title": pull.title,
        "author": {"name": pull.author},
        "createdAt": _WHEN,
        "status": pull.status,
        "repo": {"name": repository.name, "type": repository.kind},
        "isPullRequest": True,
    }
