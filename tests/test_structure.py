"""The layout's promises, checked on the source and in fresh interpreters."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield node.module or ""


@pytest.mark.parametrize("file", sorted((ROOT / "space").rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_the_product_does_not_know_the_factory(file):
    assert not [name for name in imports(file) if name.split(".")[0] in ("train", "tests", "bench", "app")]


@pytest.mark.parametrize(
    ("library", "doors"),
    [("gradio", {"ui.py"}), ("fastapi", {"api.py"}), ("torch", {"engine/pytorch.py", "engine/loading.py"})],
)
def test_a_library_comes_in_by_its_own_door(library, doors):
    users = {
        str(file.relative_to(ROOT / "space"))
        for file in (ROOT / "space").rglob("*.py")
        if library in {name.split(".")[0] for name in imports(file)}
    }
    assert users == doors


def test_only_settings_reads_the_environment():
    readers = {
        f.name for f in (ROOT / "space").rglob("*.py") if "environ" in f.read_text() or "getenv" in f.read_text()
    }
    assert readers == {"settings.py"}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("space.prompt", ("gradio", "torch", "transformers", "huggingface_hub")),
        ("space.chat", ("gradio", "torch", "transformers")),
        ("space.engine", ("gradio", "torch", "transformers")),
        ("space.ui", ("torch", "transformers")),
        ("train.__main__", ("gradio", "torch", "transformers")),
    ],
)
def test_importing_loads_nothing_heavy(module, heavy):
    code = f"import {module}, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
