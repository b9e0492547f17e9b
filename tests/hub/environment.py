"""A fresh environment with what requirements.txt brings, and nothing else: made of links, in a second.

Its packages are those of this environment, which installed the same pins, so nothing is fetched; but Python finds in it only
the packages that the pins and their own requirements name. An import of anything else fails there as it would on a Space.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def environment(requirements: Path, folder: Path) -> str:
    """Makes it in `folder`; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    target = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    for found in closure(requirements):
        for file in found.files or []:
            # Scripts and data outside site-packages are not imported.
            if file.parts[0] != ".." and not (target / file.parts[0]).exists():
                (target / file.parts[0]).symlink_to(Path(str(found.locate_file(file.parts[0]))))
    return str(folder / "bin" / "python")


def closure(requirements: Path) -> list[Distribution]:
    """The distributions that the lines of a requirements file name, and what those require here."""
    wanted = [Requirement(line) for line in requirements.read_text().splitlines() if line and not line.startswith("#")]
    seen: dict[tuple[str, str], Distribution] = {}
    while wanted:
        requirement = wanted.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen[name, extra] = found = distribution(name)
            wanted += [
                needed
                for needed in map(Requirement, found.requires or [])
                if needed.marker is None or needed.marker.evaluate({"extra": extra})
            ]
    return list({name: found for (name, _), found in seen.items()}.values())
