"""The Hub, for the stages that use it: its refusals as sentences, patience where they pass, and changes that are whole."""

from __future__ import annotations

import fnmatch
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from httpx2 import ConnectError, HTTPError, TransportError
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    constants,
    get_token,
    hf_hub_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from space.engine.digest import Digest as Digest
from train.errors import TrainError

_T = TypeVar("_T")
_ERRORS = (HTTPError, OSError, RuntimeError, ValueError)
"""What the client raises: its own errors, the transport's, this machine's, and what it makes of answers and of failed uploads."""

STAGING = "upload"
"""The branch where files wait until all of them have been verified."""
WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try; the Hub's own Retry-After where that is longer."""


# ---- sentences ------------------------------------------------------------------------------------------------------


@contextmanager
def sentences(name: str, kind: str = "model") -> Iterator[None]:
    """Whatever the Hub's client raises over a repository (`kind`: model, dataset or space), as a `TrainError`."""
    try:
        yield
    except _ERRORS as error:
        raise TrainError(_sentence(_cause(error), name, kind)) from error


def patiently(action: Callable[[], _T], name: str, kind: str = "model") -> _T:
    """What `action` returns. It is done again, from its beginning, where the connection broke or the Hub has trouble that
    passes, so it must leave alone what it finds done. Raises `TrainError` where that does not help, or never would."""
    with sentences(name, kind):
        for wait in WAITS:
            try:
                return action()
            except _ERRORS as error:
                cause = _cause(error)
                if not _passes(cause):
                    raise
                pause = max(wait, _retry_after(cause))
            said = _sentence(cause, name, kind).partition("; ")[0]
            print(f"{said}; trying again in {pause:.0f} s.", flush=True)
            time.sleep(pause)
        return action()


def _cause(error: Exception) -> Exception:
    """What really happened: the client hides it behind a RuntimeError for an upload, and behind a missing file for a download."""
    hidden = error.__cause__ if isinstance(error, RuntimeError | LocalEntryNotFoundError) else None
    return hidden if isinstance(hidden, Exception) else error


def _passes(error: Exception) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, TransportError | json.JSONDecodeError)  # a proxy's page of HTML is no JSON


def _retry_after(error: Exception) -> float:
    """Seconds that the Hub asks to wait; 0 where it does not."""
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return float(asked) if asked.isdigit() else 0.0


def named(option: str, name: str) -> str:
    """The repository's name as it was given. Raises `TrainError` where it is not of the form owner/name."""
    if name.count("/") != 1:
        raise TrainError(f"{option} is {name!r} but must be of the form OWNER/NAME; correct it.")
    return name


@contextmanager
def machine(option: str) -> Iterator[None]:
    """What the Hub says to the wish for a machine, given as `option`, as a `TrainError`; other errors pass."""
    try:
        yield
    except HfHubHTTPError as error:
        status, path = error.response.status_code, error.response.request.url.path
        if status != 402 and not (status in (400, 403) and path.endswith("/hardware")):
            raise
        said = f" ({error.server_message})" if error.server_message else ""
        raise TrainError(
            f"The Hub refuses {option}{said}; it may take PRO or prepaid credits, or be misspelt: choose another."
        ) from error


def _sentence(error: Exception, name: str, kind: str) -> str:
    page = f"{constants.ENDPOINT}/{'' if kind == 'model' else kind + 's/'}{name}"
    tokens = f"{constants.ENDPOINT}/settings/tokens"
    if isinstance(error, GatedRepoError):  # a RepositoryNotFoundError too
        return f"{name} is gated: accept its licence at {page} and set HF_TOKEN to a token of the account that accepted it."
    if isinstance(error, RevisionNotFoundError | EntryNotFoundError):
        return f"The {kind} {name} lacks a revision or a file that is needed; see {page}/commits."
    if isinstance(error, HFValidationError):
        return f"{name!r} is not a valid repository name; write owner/name."
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        # Without a token the Hub says 401 to what is missing as to what is private.
        if isinstance(error, RepositoryNotFoundError) or (status == 401 and not get_token()):
            return f"There is no {kind} {name} on the Hub, or HF_TOKEN may not read it; check the name and HF_TOKEN."
        if status == 401:
            return f"The Hub refused HF_TOKEN (status 401) for {name}; make a new token at {tokens}."
        if status == 403:
            return (
                f"HF_TOKEN does not have this right on {name} (status 403); make a token that has it at {tokens}, or name a "
                "repository of your own."
            )
        if status in (409, 412):
            return f"Somebody else changed {name} at the same time (status {status}); run the command again."
        return f"The Hub answered {status} for {name}; wait a moment and run the command again."
    if isinstance(error, ConnectError | OfflineModeIsEnabled):
        return f"The Hub cannot be reached for {name}; check this machine's connection and {constants.ENDPOINT}."
    said = (str(error).strip() or type(error).__name__).splitlines()[-1]
    if isinstance(error, TransportError | json.JSONDecodeError | RuntimeError):
        return f"The connection to the Hub broke for {name} ({said}); run the command again, it goes on where it was."
    if isinstance(error, OSError):
        reason = os.strerror(error.errno) if error.errno else said
        return f"A file for {name} could not be read or stored on this machine ({reason}); make room and run the command again."
    return f"The Hub did not accept what was sent to {name} ({said})."


# ---- files ----------------------------------------------------------------------------------------------------------


def listing(name: str, revision: str, kind: str = "model") -> dict[str, RepoFile]:
    """The files of a repository, by their paths."""
    entries = HfApi().list_repo_tree(name, recursive=True, revision=revision, repo_type=kind)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def fetch(name: str, file: str, revision: str) -> bytes:
    """A small file of a model repository, held against the Hub's own listing. Raises `TrainError`."""

    def download() -> bytes:
        listed = listing(name, revision)[file]
        with tempfile.TemporaryDirectory() as folder:  # a cache would keep what arrived damaged
            content = Path(hf_hub_download(name, file, revision=revision, local_dir=folder)).read_bytes()
        if not Digest.of(content).matches(listed):
            raise TrainError(f"{file} of {name} arrived damaged; run the command again.")
        return content

    return patiently(download, name)


def land(name: str, files: Mapping[str, Path | bytes], message: str, ours: Sequence[str], kind: str = "model") -> str:
    """Brings `main` to hold these files; returns its commit. Whatever reads `main` finds all of the old or all of the new.

    The files go to the branch `upload` first and are compared there, by size and hash, with the Hub's own listing. Then one
    commit on `main` takes the large ones over from the verified commit, holds the small ones itself, and deletes what else
    matches `ours` (patterns of what a former upload left). It names its parent, so that it fails where somebody else moved
    `main` meanwhile. A pull request would be no safer: merging one takes no parent, needs discussions switched on, and an
    interruption would leave it open. The Hub keeps large files by their hash, so that after an interruption they are not sent
    again; where `main` is right already nothing is done but to remove a branch that was left. Call it through `patiently`.
    """
    api = HfApi()
    refs = {branch.name: branch.target_commit for branch in api.list_repo_refs(name, repo_type=kind).branches}
    wanted = {path: Digest.of(content) for path, content in files.items()}
    head = refs["main"]
    there = listing(name, head, kind)
    changed = [path for path in wanted if not wanted[path].matches(there.get(path))]
    gone = [path for path in there if path not in wanted and any(fnmatch.fnmatch(path, each) for each in ours)]
    if changed or gone:
        if changed and STAGING not in refs:
            api.create_branch(name, branch=STAGING, revision=head, repo_type=kind, exist_ok=True)
            refs[STAGING] = head
        operations: list[Any] = [CommitOperationDelete(path) for path in gone]
        if changed:
            added = [CommitOperationAdd(path, files[path]) for path in changed]
            staged = api.create_commit(name, added, commit_message=message, revision=STAGING, repo_type=kind).oid
            waiting = listing(name, staged, kind)
            _verify(name, waiting, {path: wanted[path] for path in changed})
            operations += [
                CommitOperationCopy(path, path, src_revision=staged)
                if waiting[path].lfs
                else CommitOperationAdd(path, files[path])
                for path in changed
            ]
        head = api.create_commit(name, operations, commit_message=message, parent_commit=head, repo_type=kind).oid
        _verify(name, listing(name, head, kind), wanted)
    if STAGING in refs:
        api.delete_branch(name, branch=STAGING, repo_type=kind)
    return head


def _verify(name: str, listed: Mapping[str, RepoFile], wanted: Mapping[str, Digest]) -> None:
    for path, digest in wanted.items():
        if not digest.matches(listed.get(path)):
            raise TrainError(f"After the upload {name} holds another {path} than this machine; run the command again.")
