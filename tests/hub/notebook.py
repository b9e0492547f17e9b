"""notebooks/train.ipynb as Colab and Kaggle run it: its cells, in order, in a kernel; of the first one the values replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.hub.machine import ROOT, environment
from tests.hub.server import OWNER
from train.remote import TRAVELS
from train.tree import FACTORY_KINDS, travelling


def repository(folder: Path) -> Path:
    """Makes the folder a repository to clone, with the code that is here now."""
    for path, content in travelling(*TRAVELS, kinds=FACTORY_KINDS).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "All of it"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


def execute(folder: Path, endpoint: str, **values: object) -> str:
    """Executes the notebook in a folder; returns what its cells printed. Raises `CellExecutionError`."""
    notebook = nbformat.read(ROOT / "notebooks" / "train.ipynb", as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    names = [line.split()[1].partition("=")[0] for line in first.source.splitlines()]
    assert set(values) < set(names)
    first.source = "\n".join(f"%env {name}={values.get(name, '')}" for name in names)
    alone = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}  # as no other machine may be asked
    home = {"HOME": str(folder), "IPYTHONDIR": str(folder), "HF_TOKEN": OWNER}
    kernel = environment(endpoint, folder / "hf", **alone, **home)
    kernel["PATH"] = f"{Path(sys.executable).parent}:{kernel['PATH']}"
    os.environ["JUPYTER_RUNTIME_DIR"] = str(folder)
    NotebookClient(notebook, timeout=280, resources={"metadata": {"path": folder}}).execute(env=kernel)
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
