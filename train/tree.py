"""What of this tree travels to another machine: named files, and of named folders the kinds of file that the code needs."""

from __future__ import annotations

import re
from pathlib import Path

from train.errors import TrainError

ROOT = Path(__file__).parent.parent

KINDS = frozenset({".css", ".gguf", ".jinja", ".js", ".json", ".md", ".png", ".py", ".safetensors", ".toml", ".words"})
"""Endings of what travels of a folder: code and what it reads. No caches, no hidden files, no pickles."""
FACTORY_KINDS = KINDS | {".jsonl", ".yaml"}
"""The same where `train` travels too, with its sample and its recipes."""

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
