"""bench/RESULTS.md: one section for each script, replaced when it runs again, with the machine and the versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

FILE = Path(__file__).parent / "RESULTS.md"


def write(script: str, text: str, packages: Sequence[str]) -> None:
    """Put `text` (Markdown) under the heading of `script`, e.g. "cold_start"."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    versions = "".join(f"{', ' if i else '; '}{name} {version(name)}" for i, name in enumerate(packages))
    section = f"## {script}\n\n`python -m bench.{script}` on {machine}{versions}.\n\n{text.strip()}\n"
    old = (
        FILE.read_text().split("\n## ") if FILE.is_file() else ["# Results\n\nWritten by the scripts of this folder.\n"]
    )
    kept = [part for part in old[1:] if part.split("\n", 1)[0] != script]
    parts = sorted([*kept, section.removeprefix("## ")])
    FILE.write_text("\n## ".join([old[0], *(part.strip() + "\n" for part in parts)]))


def table(script: str) -> str:
    """The table in the section of `script`, for the README (a test holds the two together)."""
    section = FILE.read_text().split(f"\n## {script}\n")[1].split("\n## ")[0]
    return "\n".join(line for line in section.splitlines() if line.startswith("|"))
