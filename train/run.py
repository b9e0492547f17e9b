"""The run directory: what a stage needs, what it leaves, and whether it is done already.

    runs/<name>/  recipe.yaml  data/  adapter/  merged/  metrics.json  README.md

A stage's output appears whole or not at all. Beside it lies the fingerprint of what it was made from; while that has not
changed, the stage has nothing to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.errors import TrainError
from train.recipe import Recipe

RUNS = Path("runs")
LOCK = ".lock"
"""The file of a run directory that the process at work in it has locked."""


@dataclass(frozen=True)
class Run:
    """One training run: its recipe and its directory."""

    recipe: Recipe
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    @property
    def merged(self) -> Path:
        return self.folder / "merged"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    def need(self, path: Path, stage: str) -> Path:
        """`path`, which `stage` makes. Raises `TrainError` with the command where it is missing."""
        if not path.exists():
            raise TrainError(f"{path} is missing; make it with: python -m train {stage} --recipe {self.recipe_name}")
        return path

    @property
    def recipe_name(self) -> str:
        return str(self.folder / "recipe.yaml")

    def recorded(self, name: str = "") -> dict[str, Any]:
        """What metrics.json says, or one part of it; empty where there is nothing."""
        known: dict[str, Any] = json.loads(self.metrics.read_text()) if self.metrics.is_file() else {}
        return dict(known.get(name, {})) if name else known

    def record(self, **values: Any) -> None:
        """Add values to metrics.json, whole or not at all."""
        known = self.recorded()
        with whole(self.metrics) as file:
            file.write_text(json.dumps(known | values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a run directory. Raises `TrainError` where one is in it already.

    The lock is the system's and ends with its process, however that ends. Of processes that train together, the first holds it.
    """
    from filelock import FileLock, Timeout

    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held = FileLock(folder / LOCK).acquire(blocking=False)
        except Timeout:
            raise TrainError(
                f"Another process is at work in {folder}; wait for its end, or choose another directory with --run."
            ) from None
    with held:
        yield


def start(recipe: Recipe, folder: Path) -> Run:
    """The run directory of a recipe, with the recipe in it."""
    import yaml

    run = Run(recipe, folder)
    if os.environ.get("RANK", "0") == "0":  # one of the processes that train together
        with whole(run.folder / "recipe.yaml") as file:
            file.write_text(yaml.safe_dump(recipe.as_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return run


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A path beside `target` to write a file or a folder to; it becomes `target` when the block ends without an error."""
    work = target.with_name(f".{target.name}.new")
    try:
        with writing(target):
            _remove(work)  # of a process that was killed
            target.parent.mkdir(parents=True, exist_ok=True)
            yield work
            if target.is_dir():
                _remove(target)
            os.replace(work, target)
    finally:
        _remove(work)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turns what a full disk or missing rights raise, which differs by library, into a `TrainError`."""
    try:
        yield
    except Exception as error:
        # safetensors and torch have no type of their own for it: an OSError of Rust's, and a file shorter than it should be
        of_library = any(said in str(error) for said in ("I/O error", "PytorchStreamWriter", "inline_container"))
        if not isinstance(error, OSError) and not of_library:
            raise
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).splitlines()[0]
        raise TrainError(f"{target} could not be written ({reason}); make room and run the stage again.") from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fingerprint(*parts: Any) -> str:
    """A hash of values, and of files and folders by their content."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in sorted(part.rglob("*") if part.is_dir() else [part]):
                if file.is_file() and file.name != MADE_FROM:
                    digest.update(str(file.relative_to(part) if part.is_dir() else file.name).encode())
                    with file.open("rb") as content:
                        digest.update(hashlib.file_digest(content, "sha256").digest())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()


MADE_FROM = "made_from"
"""The file inside a stage's output that holds the fingerprint of its inputs."""


def done(folder: Path, mark: str) -> bool:
    """Whether `folder` was made from inputs with this fingerprint."""
    file = folder / MADE_FROM
    return file.is_file() and file.read_text() == mark
