"""notebooks/train.ipynb as Colab and Kaggle run it: its cells, in order, in a kernel; of the first one the values replaced."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.hub.machine import environment
from tests.hub.server import OWNER, hub
from train.remote import TRAVELS
from train.tree import FACTORY_KINDS, travelling

ROOT = Path(__file__).parent.parent
SMALL = {"examples": 300, "epochs": 0.2, "eval_steps": 3, "eval_examples": 4, "rouge_examples": 1}


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """A repository to clone, with the code that is here now."""
    folder = tmp_path_factory.mktemp("code")
    for path, content in travelling(*TRAVELS, kinds=FACTORY_KINDS).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "All of it"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


def run(folder, endpoint, **values):
    """Executes the notebook in a folder; returns what its cells printed."""
    notebook = nbformat.read(ROOT / "notebooks" / "train.ipynb", as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    names = [line.split()[1].partition("=")[0] for line in first.source.splitlines()]
    assert set(values) < set(names)
    first.source = "\n".join(f"%env {name}={values.get(name, '')}" for name in names)
    alone = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}  # as no other machine may be asked
    home = {"HOME": str(folder), "IPYTHONDIR": str(folder), "HF_TOKEN": OWNER}
    kernel = environment(endpoint, folder / "hf", **alone, **home)
    kernel["PATH"] = f"{Path(sys.executable).parent}:{kernel['PATH']}"
    NotebookClient(notebook, timeout=280, resources={"metadata": {"path": folder}}).execute(env=kernel)
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.skipif(not os.environ.get("CI"), reason="trains for a minute; done where CI is set, as .ci/run does")
@pytest.mark.timeout(300)
def test_its_cells_train_and_publish(code, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    demo = yaml.safe_load((ROOT / "train" / "recipes" / "demo.yaml").read_text())
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(demo | SMALL))
    with hub() as running:
        said = run(tmp_path, running.endpoint, CODE=code, RECIPE=tmp_path / "small.yaml", REPO="owner/notebook")
        published = running.repositories.get("owner/notebook")
        assert {"model.safetensors", "model-q4_0.gguf", "README.md"} <= set(published.files())
        assert published.private
    assert said.index("check: rehearsal") < said.index("Done: runs/demo")
    assert OWNER not in said


def test_a_command_that_fails_ends_it(code, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(CellExecutionError, match="There is no recipe"):
        run(tmp_path, "http://127.0.0.1:9", CODE=code, RECIPE="none", REPO="owner/none")
