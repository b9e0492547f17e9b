"""Repositories of models, data sets and Spaces: refs, commits as trees of files, uploads, downloads.

Answers are the real Hub's: a repository one may not see is 401 without a token and 404 with one; a gated one is listed for
everybody and its files are refused. Uploads go the `basic` way of LFS: the client takes Xet instead wherever hf_xet is
installed, without asking, so that those who publish here set HF_HUB_DISABLE_XET.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from tests.hub.server import Answer, Refusal, Request, Route, answer

if TYPE_CHECKING:
    from tests.hub.server import Hub

_KIND = r"(?P<kind>model|dataset|space)s"
_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_REVISION = r"(?P<revision>[^/]+)"
API = f"/api/{_KIND}/{_NAME}"
"""A repository inside /api."""
_PLACE = rf"(?:(?P<kind>dataset|space)s/)?{_NAME}"
"""A repository outside /api: models have no prefix there."""
_LARGE = re.compile(r"\.(safetensors|gguf|png|bin|pt|parquet|arrow)$")
LARGE = 10_000_000
"""Bytes from which a file is stored by LFS whatever its name."""


@dataclass(frozen=True)
class Blob:
    """A file's content; `large`: stored by LFS, git holds a pointer to it."""

    body: bytes = field(repr=False)
    large: bool

    @property
    def sha256(self) -> str:
        return sha256(self.body).hexdigest()

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.body)}\n".encode()

    @property
    def oid(self) -> str:
        """git's hash of what git holds."""
        content = self.pointer if self.large else self.body
        return sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str
    message: str
    tree: dict[str, Blob] = field(repr=False)


@dataclass
class Repository:
    """A repository; `private` and `gated` may change at any time."""

    kind: str
    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict, repr=False)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict, repr=False)
    """Large files by their SHA-256, also those that no commit holds yet."""

    @property
    def head(self) -> str:
        return self.branches["main"]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return {path: blob.body for path, blob in self.at(revision).tree.items()}

    def history(self, revision: str = "main") -> list[Commit]:
        """The commits that lead to a revision, newest first."""
        found, oid = [], self.at(revision).oid
        while oid:
            found.append(self.commits[oid])
            oid = self.commits[oid].parent
        return found

    def at(self, revision: str) -> Commit:
        revision = revision.removeprefix("refs/heads/")
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[oid]

    def commit(self, tree: dict[str, Blob], message: str, branch: str = "main") -> Commit:
        parent = self.branches.get(branch, "")
        listed = json.dumps([parent, message, len(self.commits), {path: blob.oid for path, blob in tree.items()}])
        commit = Commit(sha1(listed.encode()).hexdigest(), parent, message, tree)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit


def is_large(path: str, size: int) -> bool:
    return bool(_LARGE.search(path)) or size > LARGE


class Repositories:
    """All repositories by (kind, name), and the routes to them."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.known: dict[tuple[str, str], Repository] = {}
        self.opens: Callable[[Repository, str, str], Any] | None = None
        """Opens a pull request with this title for this account (pulls.py)."""

    def routes(self) -> list[Route]:
        api, place = API, f"/{_PLACE}"
        return [
            Route("POST", "/api/repos/create", self._create),
            Route("POST", "/api/validate-yaml", lambda *_: answer({"errors": [], "warnings": []})),
            Route("GET", f"{api}(?:/revision/{_REVISION})?", self._info),
            Route("GET", f"{api}/auth-check", lambda request, at: answer(bool(self._readable(request, at)))),
            Route("GET", f"{api}/auth-check/write", lambda request, at: answer(bool(self._written(request, at)))),
            Route("GET", f"{api}/refs", self._refs),
            Route("GET", f"{api}/tree/{_REVISION}(?:/(?P<folder>.+))?", self._tree),
            Route("POST", f"{api}/paths-info/{_REVISION}", self._paths),
            Route("POST", f"{api}/preupload/{_REVISION}", self._preupload),
            Route("POST", f"{api}/commit/{_REVISION}", self._commit),
            Route("POST", f"{api}/branch/{_REVISION}", self._branch),
            Route("DELETE", f"{api}/branch/{_REVISION}", self._unbranch),
            Route("POST", f"{api}/tag/{_REVISION}", self._tag),
            Route("PUT", f"{api}/settings", self._settings),
            Route("POST", rf"{place}\.git/info/lfs/objects/batch", self._batch),
            Route("PUT", f"/storage{place}/(?P<oid>[0-9a-f]{{64}})", self._store),
            Route("POST", f"{place}/verify", self._verify),
            Route("GET", f"{place}/resolve/{_REVISION}/(?P<file>.+)", self._resolve),
            Route("GET", f"/storage{place}/(?P<oid>[0-9a-f]{{64}})", self._stored),
        ]

    # ---- for tests --------------------------------------------------------------------------------------------------

    def add(
        self, name: str, files: dict[str, bytes] | None = None, *, kind: str = "model", **options: Any
    ) -> Repository:
        """A repository of this name, in place of another one, with these files on `main`."""
        repository = self.known[kind, name] = Repository(kind, name, **options)
        tree = {path: Blob(body, is_large(path, len(body))) for path, body in (files or {"config.json": b"{}"}).items()}
        repository.stored.update({blob.sha256: blob.body for blob in tree.values() if blob.large})
        repository.commit(tree, "initial commit")
        return repository

    def get(self, name: str, kind: str = "model") -> Repository:
        return self.known[kind, name]

    def fetched(self, name: str, kind: str = "model") -> set[str]:
        """The files of a repository that were asked for."""
        prefix = "" if kind == "model" else f"{kind}s/"
        paths = (re.fullmatch(rf"\w+ /{prefix}{name}/resolve/[^/]+/(.+)", each.line) for each in self._hub.requests)
        return {path[1] for path in paths if path}

    # ---- who may what -------------------------------------------------------------------------------------------------

    def _seen(self, request: Request, at: dict[str, str]) -> Repository:
        """The repository, for those who may know that it exists."""
        repository = self.known.get((at.get("kind", "model"), at["name"]))
        account = request.account
        if repository is None or (repository.private and not (account and account.reads)):
            raise (
                Refusal(404, "RepoNotFound", "Repository not found")
                if account
                else Refusal(401, message="Invalid username or password.")
            )
        return repository

    def _readable(self, request: Request, at: dict[str, str]) -> Repository:
        """The repository, for those who may have its files."""
        repository = self._seen(request, at)
        if repository.gated and not (request.account and request.account.reads):
            raise Refusal(403 if request.account else 401, "GatedRepo")
        return repository

    def _written(self, request: Request, at: dict[str, str]) -> Repository:
        """The repository, for those who may change it."""
        repository = self._seen(request, at)
        if request.account is None:
            raise Refusal(401, message="Invalid username or password.")
        if not request.account.writes(repository.name):
            raise Refusal(403, message="Forbidden: you must use a write token to write to this repository.")
        return repository

    # ---- repositories and refs ------------------------------------------------------------------------------------

    def _create(self, request: Request, _: dict[str, str]) -> Answer:
        asked = request.json()
        if request.account is None:
            raise Refusal(401, message="Invalid username or password.")
        kind, name = asked.get("type", "model"), f"{asked['organization'] or request.account.name}/{asked['name']}"
        if not request.account.writes(name):
            raise Refusal(403, message=f"You don't have the rights to create a {kind} under the namespace")
        url = f"{self._hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{name}"
        if (kind, name) in self.known:
            taken = Refusal(409, message=f"You already created this {kind} repo")
            taken.answer = answer({"error": f"You already created this {kind} repo", "url": url}, 409)
            raise taken
        self.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"}, kind=kind).private = (
            asked.get("visibility") == "private"
        )
        return answer({"url": url, "name": name})

    def _settings(self, request: Request, at: dict[str, str]) -> Answer:
        repository, asked = self._written(request, at), request.json()
        if "visibility" in asked:
            repository.private = asked["visibility"] == "private"
        return answer({"private": repository.private})

    def _info(self, request: Request, at: dict[str, str]) -> Answer:
        repository = self._seen(request, at)
        commit = repository.at(at.get("revision", "main"))
        return answer(
            {
                "id": repository.name,
                "sha": commit.oid,
                "private": repository.private,
                "gated": "manual" if repository.gated else False,
                "tags": [],
                "siblings": [_sibling(path, blob, "blobs" in request.query) for path, blob in commit.tree.items()],
            }
        )

    def _refs(self, request: Request, at: dict[str, str]) -> Answer:
        repository = self._seen(request, at)

        def listed(refs: dict[str, str], folder: str) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid} for name, oid in refs.items()]

        heads = {name: oid for name, oid in repository.branches.items() if not name.startswith("refs/pr/")}
        pulls = [
            {"name": name.removeprefix("refs/"), "ref": name, "targetCommit": oid}
            for name, oid in repository.branches.items()
            if name not in heads
        ]
        branches, tags = listed(heads, "heads"), listed(repository.tags, "tags")
        return answer({"branches": branches, "tags": tags, "converts": [], "pullRequests": pulls})

    def _branch(self, request: Request, at: dict[str, str]) -> Answer:
        repository, name = self._written(request, at), at["revision"]
        if name in repository.branches:
            raise Refusal(409, message=f"Reference already exists: {name}")
        repository.branches[name] = repository.at(request.json().get("startingPoint", "main")).oid
        return answer({})

    def _unbranch(self, request: Request, at: dict[str, str]) -> Answer:
        if self._written(request, at).branches.pop(at["revision"], None) is None:
            raise Refusal(404, "RevisionNotFound")
        return answer({})

    def _tag(self, request: Request, at: dict[str, str]) -> Answer:
        repository, name = self._written(request, at), request.json()["tag"]
        if name in repository.tags:
            raise Refusal(409, message=f"Tag reference exists already: {name}")
        repository.tags[name] = repository.at(at["revision"]).oid
        return answer({})

    # ---- listings -----------------------------------------------------------------------------------------------------

    def _tree(self, request: Request, at: dict[str, str]) -> Answer:
        commit = self._seen(request, at).at(at["revision"])
        folder = f"{at['folder']}/" if "folder" in at else ""
        below = {path: blob for path, blob in commit.tree.items() if path.startswith(folder)}
        if folder and not below:
            raise Refusal(404, "EntryNotFound", X_Repo_Commit=commit.oid)
        if request.query.get("recursive") != "true":
            folders = {folder + path[len(folder) :].partition("/")[0] for path in below if "/" in path[len(folder) :]}
            below = {path: blob for path, blob in below.items() if "/" not in path[len(folder) :]}
            return answer([*map(_folder, sorted(folders)), *(_entry(path, blob) for path, blob in below.items())])
        return answer([_entry(path, blob) for path, blob in below.items()])

    def _paths(self, request: Request, at: dict[str, str]) -> Answer:
        tree = self._seen(request, at).at(at["revision"]).tree
        asked = request.json() if "json" in request.headers["content-type"] else parse_qs(request.body.decode())
        return answer(
            [
                _entry(path, tree[path]) if path in tree else _folder(path)
                for path in asked["paths"]
                if path in tree or any(other.startswith(f"{path}/") for other in tree)
            ]
        )

    # ---- uploads ------------------------------------------------------------------------------------------------------

    def _preupload(self, request: Request, at: dict[str, str]) -> Answer:
        repository = (self._readable if "create_pr" in request.query else self._written)(request, at)
        tree = repository.at(at["revision"]).tree
        return answer(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if is_large(file["path"], file["size"]) else "regular",
                        "shouldIgnore": False,
                        **({"oid": tree[file["path"]].etag} if file["path"] in tree else {}),
                    }
                    for file in request.json()["files"]
                ]
            }
        )

    def _batch(self, request: Request, at: dict[str, str]) -> Answer:
        repository, asked = self._written(request, at), request.json()
        place = f"{'' if repository.kind == 'model' else repository.kind + 's/'}{repository.name}"

        def wanted(file: dict[str, Any]) -> dict[str, Any]:
            if file["oid"] in repository.stored:
                return file
            upload = {"href": f"{self._hub.storage}/storage/{place}/{file['oid']}"}
            return file | {"actions": {"upload": upload, "verify": {"href": f"{self._hub.endpoint}/{place}/verify"}}}

        return answer({"transfer": "basic", "objects": [wanted(file) for file in asked["objects"]]})

    def _store(self, request: Request, at: dict[str, str]) -> Answer:
        repository = self.known[at.get("kind", "model"), at["name"]]
        if sha256(request.body).hexdigest() != at["oid"]:
            raise Refusal(400, message="The content does not have this SHA-256")
        repository.stored[at["oid"]] = request.body
        return answer({})

    def _verify(self, request: Request, at: dict[str, str]) -> Answer:
        repository, asked = self._written(request, at), request.json()
        if len(repository.stored.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(404, message="This object was not uploaded")
        return answer({})

    def _commit(self, request: Request, at: dict[str, str]) -> Answer:
        header, *operations = (json.loads(line) for line in request.body.splitlines())
        pull = None
        if "create_pr" in request.query:
            repository = self._readable(request, at)
            pull = self.opens(repository, header["value"]["summary"], request.account.name)
        else:
            repository = self._written(request, at)
        branch = f"refs/pr/{pull.number}" if pull else at["revision"]
        if branch not in repository.branches:
            raise Refusal(404, "RevisionNotFound", f"There is no branch {branch}")
        if header["value"].get("parentCommit", repository.branches[branch]) != repository.branches[branch]:
            raise Refusal(412, message="A commit has happened since. Please refresh and try again.")
        tree = dict(repository.at(branch).tree)
        for operation in operations:
            kind, value = operation["key"], operation["value"]
            if kind == "file":
                tree[value["path"]] = Blob(base64.b64decode(value["content"]), large=False)
            elif kind == "lfsFile":
                if value["oid"] not in repository.stored:
                    raise Refusal(400, message=f"The LFS object of {value['path']} was not uploaded")
                tree[value["path"]] = Blob(repository.stored[value["oid"]], large=True)
            elif kind == "deletedFile":
                if tree.pop(value["path"], None) is None:
                    raise Refusal(404, "EntryNotFound", "A file with this name doesn't exist")
            elif kind == "deletedFolder":
                tree = {path: blob for path, blob in tree.items() if not path.startswith(value["path"])}
        commit = repository.commit(tree, header["value"]["summary"], branch)
        page = f"{self._hub.endpoint}/{repository.name}"
        opened = {"pullRequestUrl": f"{page}/discussions/{pull.number}"} if pull else {}
        return answer({"commitOid": commit.oid, "commitUrl": f"{page}/commit/{commit.oid}", **opened})

    # ---- downloads ----------------------------------------------------------------------------------------------------

    def _resolve(self, request: Request, at: dict[str, str]) -> Answer:
        repository = self._readable(request, at)
        commit = repository.at(at["revision"])
        if (blob := commit.tree.get(at["file"])) is None:
            raise Refusal(404, "EntryNotFound", X_Repo_Commit=commit.oid)
        headers = {"ETag": f'"{blob.etag}"', "X-Repo-Commit": commit.oid}
        if not blob.large:
            return _content(blob.body, request, headers)
        linked = {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.body))}
        prefix = "" if repository.kind == "model" else f"{repository.kind}s/"
        where = f"{self._hub.storage}/storage/{prefix}{quote(repository.name)}/{blob.sha256}"
        return Answer(302, b"", headers | linked | {"Location": where})

    def _stored(self, request: Request, at: dict[str, str]) -> Answer:
        body = self.known[at.get("kind", "model"), at["name"]].stored[at["oid"]]
        return _content(body, request, {"ETag": f'"{at["oid"]}"'})


def _content(body: bytes, request: Request, headers: dict[str, str]) -> Answer:
    """The body, or the part of it that the request asks for by its Range."""
    headers = {"Accept-Ranges": "bytes", **headers}
    if part := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")):
        first, last = int(part[1]), min(int(part[2] or len(body)), len(body) - 1)
        return Answer(206, body[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{len(body)}"})
    return Answer(200, body, headers)


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(blob.body), "oid": blob.oid}
    lfs = {"oid": blob.sha256, "size": len(blob.body), "pointerSize": len(blob.pointer)}
    return entry | ({"lfs": lfs} if blob.large else {})


def _sibling(path: str, blob: Blob, sizes: bool) -> dict[str, Any]:
    """A file as a repository's own description names it."""
    return {"rfilename": path} | ({"size": len(blob.body), "blobId": blob.oid} if sizes else {})


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "oid": sha1(path.encode()).hexdigest()}
