"""What is installed is locked by hash, and what is loaded can only be data: no pickle, no code of a model's."""

from __future__ import annotations

import ast
import re
import shutil
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from space.engine import load
from space.errors import ModelError
from space.settings import DEMO_MODEL, Settings
from train.errors import TrainError

ROOT = Path(__file__).parent.parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
OURS = sorted(
    [ROOT / "app.py", *(file for name in ("space", "train", "bench") for file in (ROOT / name).rglob("*.py"))]
)

# ---- the lock -------------------------------------------------------------------------------------------------------


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", LOCK, re.MULTILINE))


def asked() -> list[Requirement]:
    lines = [
        line for name in ("", "-train", "-dev") for line in (ROOT / f"requirements{name}.txt").read_text().splitlines()
    ]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]


@pytest.mark.parametrize("requirement", asked(), ids=lambda requirement: requirement.name)
def test_every_pin_is_locked_and_so_is_all_that_it_needs(requirement):
    versions = locked()
    assert f"=={versions.get(canonicalize_name(requirement.name))}" == str(requirement.specifier), "make the lock again"
    seen, todo = set(), [(requirement.name, {"", *requirement.extras})]
    while todo:
        name, extras = todo.pop()
        assert canonicalize_name(name) in versions, f"{name} is needed but not locked; make the lock again"
        try:
            needs = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # not for this machine
            continue
        for need in needs:
            wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)
            if wanted and (need.name, *sorted(need.extras)) not in seen:
                seen.add((need.name, *sorted(need.extras)))
                todo.append((need.name, {"", *need.extras}))


def test_the_lock_is_versions_and_hashes_and_names_no_address():
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE).strip())
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry[
            :200
        ]
    assert len(entries) == len(locked()) > 100
    assert "://" not in LOCK


# ---- only data ------------------------------------------------------------------------------------------------------

RUNS_CODE = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "load_pickle",
    "read_pickle",
    "torch.load",
    "yaml.load",
    "yaml.unsafe_load",
}
SAFE = {"trust_remote_code": False, "allow_pickle": False, "weights_only": True, "use_safetensors": True}


def risks(source: str) -> list[str]:
    """What in this source could run code that comes with data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in RUNS_CODE]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in RUNS_CODE:
            found.append(str(node.module))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            found.append(ast.unparse(node.func))
        elif isinstance(node, ast.keyword) and node.arg in SAFE and ast.unparse(node.value) != str(SAFE[node.arg]):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("file", OURS, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_code_of_ours_runs_what_comes_with_data(file):
    assert risks(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(file)",
        "eval(text)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=chosen)",
        "f(weights_only=False)",
        "numpy.load(file, allow_pickle=True)",
        "yaml.load(text)",
    ],
)
def test_it_would_be_found(source):
    assert risks(source)


@pytest.fixture
def bomb(tmp_path):
    """A model whose weights are a pickle that leaves a file when it is read, and that file's path."""
    folder, hit = tmp_path / "model", tmp_path / "hit"
    shutil.copytree(DEMO_MODEL, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.gguf"))
    code = f"import pathlib; pathlib.Path({str(hit)!r}).touch()"
    (folder / "pytorch_model.bin").write_bytes(b"cbuiltins\nexec\n(V" + code.encode() + b"\ntR.")
    return folder, hit


def test_the_bomb_is_live(bomb):
    import pickle

    folder, hit = bomb
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert hit.exists()


@pytest.mark.parametrize("engine", ["auto", "transformers"])
def test_the_page_does_not_load_a_pickle(bomb, engine):
    folder, hit = bomb
    with pytest.raises(ModelError, match="no complete set of safetensors weights"):
        load(Settings(model_id=str(folder), engine=engine))
    assert not hit.exists()


@pytest.mark.parametrize("bits", [4, 32])
def test_training_does_not_load_a_pickle(bomb, bits):
    from train.base import load_base
    from train.recipe import read

    folder, hit = bomb
    with pytest.raises(TrainError):
        load_base(read("demo", {"base": str(folder), "bits": bits}), "cpu")
    assert not hit.exists()
