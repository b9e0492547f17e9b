"""By what the Hub knows a file's content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile


@dataclass(frozen=True)
class Digest:
    """A file's bytes, its SHA-256 (by which large files are known), and git's hash (by which all others are)."""

    size: int
    sha256: str
    git: str

    @classmethod
    def of(cls, content: Path | bytes) -> Digest:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        for part in _parts(content):
            sha256.update(part)
            git.update(part)
        return cls(size, sha256.hexdigest(), git.hexdigest())

    def matches(self, listed: RepoFile | None) -> bool:
        """Whether the Hub lists a file of this content."""
        if listed is None or listed.size != self.size:
            return False
        return bool(listed.lfs.sha256 == self.sha256 if listed.lfs else listed.blob_id == self.git)


def _parts(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while part := file.read(1 << 20):
            yield part
