"""This tree on its way elsewhere: what of it travels, and a repository of the Hub made equal to that in one commit.

One commit, so that nothing is ever built or run from half a tree; and none where nothing differs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from train.errors import TrainError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ROOT = Path(__file__).parent.parent

KINDS = frozenset({".css", ".gguf", ".jinja", ".js", ".json", ".md", ".png", ".py", ".safetensors", ".toml", ".words"})
"""Endings of what travels of a folder: code and what it reads. No caches, no hidden files, no pickles."""

GIT_ATTRIBUTES = ".gitattributes"
"""The Hub's own file in every repository, which says what is stored as LFS; it stays."""

_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{30,}")


def travelling(*names: str, kinds: frozenset[str] = KINDS) -> dict[str, bytes]:
    """{path: content} of the named files, and of the named folders the files of these kinds.

    Raises `TrainError` where one is missing, or holds what looks like an access token.
    """
    found = []
    for top in (ROOT / name for name in names):
        if not top.exists():
            raise TrainError(f"{top} is missing; run this in a whole copy of the project.")
        found += sorted(file for file in top.rglob("*") if _wanted(file, kinds)) if top.is_dir() else [top]
    files = {file.relative_to(ROOT).as_posix(): file.read_bytes() for file in found}
    for path, content in files.items():
        if _TOKEN.search(content):
            raise TrainError(f"{path} holds what looks like an access token; take it out, and revoke it on the Hub.")
    return files


def _wanted(file: Path, kinds: frozenset[str]) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(ROOT).parts)
    return file.is_file() and file.suffix in kinds and not hidden


class Difference(NamedTuple):
    """What one commit on top of `head` must do for a repository to hold given files and nothing else."""

    head: str
    there: frozenset[str]
    """Every path that it holds now."""
    changed: list[str]
    removed: list[str]


def compare(api: HfApi, repository: str, kind: str, files: Mapping[str, bytes]) -> Difference:
    """Between `main` of a repository ("model", "space", …) and these files. Raises what the Hub's client raises."""
    from huggingface_hub.hf_api import RepoFile

    head = str(api.repo_info(repository, repo_type=kind).sha)
    there = {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
        for entry in api.list_repo_tree(repository, recursive=True, revision=head, repo_type=kind)
        if isinstance(entry, RepoFile)
    }
    return Difference(
        head,
        frozenset(there),
        [path for path, content in files.items() if there.get(path) not in _names(content)],
        [path for path in there if path not in files and path != GIT_ATTRIBUTES],
    )


def _names(content: bytes) -> tuple[str, str]:
    """What the Hub calls a content: its SHA-256 as LFS, else git's SHA-1 of it as a blob."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return hashlib.sha256(content).hexdigest(), blob.hexdigest()


def commit(
    api: HfApi, repository: str, kind: str, files: Mapping[str, bytes], difference: Difference, message: str
) -> str:
    """Make the difference; returns the commit that is `main` then.

    Refused by the Hub (status 412) where somebody else has moved `main` since. Raises `TrainError` where `main` does not
    hold the files afterwards, as when a .gitignore there kept some out; else what the Hub's client raises.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    if not difference.changed and not difference.removed:
        return difference.head
    api.create_commit(
        repository,
        [
            *(CommitOperationAdd(path, files[path]) for path in difference.changed),
            *(CommitOperationDelete(path) for path in difference.removed),
        ],
        commit_message=message,
        repo_type=kind,
        parent_commit=difference.head,
    )
    after = compare(api, repository, kind, files)
    if after.changed or after.removed:
        raise TrainError(
            f"{repository} does not hold {(after.changed + after.removed)[0]} as sent; run the command again."
        )
    return after.head
