"""An environment with only some requirements in it, without installing anything."""

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


def link_installed(requirements: Path, folder: Path) -> None:
    """Links in `folder` the packages that `pip install -r requirements` would bring, and no others.

    Used with `python -S` and PYTHONPATH, it is what that file installs. Raises `PackageNotFoundError` where one is missing.
    """
    lines = [line for line in requirements.read_text().splitlines() if not line.startswith("#")]
    waiting, seen = [Requirement(line) for line in lines], set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        found = distribution(wanted.name)
        for text in found.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in {"", *wanted.extras}):
                waiting.append(needed)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(found.locate_file(top))
