"""The container image, as far as it can be had without a container engine: what the Dockerfile says is done by hand, with the
packages of this environment. `python -m bench.image` builds and runs the image itself."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from space.engine import load
from space.errors import ModelError
from space.settings import DEMO_MODEL, Settings
from tests.deploy.dockerfile import ROOT, command, environment, instructions, last, stages
from tests.deploy.installed import link_installed
from tests.serving import app_running, free_port
from tests.test_readme import front_matter, pins

NOBODY = 65534
TORCH = {"torch", "transformers", "accelerate", "bitsandbytes", "tokenizers"}
"""What only the engine on torch needs."""
# Another user who may read all, as this environment may lie where only root can look, but write nothing of root's.
AS_NOBODY = (
    f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --inh-caps=-all,+dac_read_search "
    "--ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search --no-new-privs"
).split()
as_another_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("setpriv"),
    reason="only root can become another user, with util-linux's setpriv",
)


def copied(stage):
    return [tuple(rest.split()) for word, rest in stages()[stage] if word == "COPY"]


def test_only_the_app_travels():
    assert copied("tree") == [("app.py", "/app/"), ("space", "/app/space/")]
    for name in ("cpu", "gpu"):
        assert copied(name) == [(f"--from=packages-{name}", "/venv", "/venv"), ("--from=tree", "/app", "/app")]


def test_a_build_sees_what_it_copies_and_little_else():
    ignored, *seen = (ROOT / ".dockerignore").read_text().split("\n", 1)[1].split()
    from_the_tree = {source for name in stages() for source, *_ in copied(name) if not source.startswith("--from")}
    assert ignored == "*"
    assert {line.removeprefix("!") for line in seen} == from_the_tree | {"deploy/predict.py", ".cog", "**/__pycache__"}


@pytest.mark.parametrize(("name", "file"), [("cpu", "deploy/requirements-cpu.txt"), ("gpu", "requirements.txt")])
def test_each_variant_installs_its_requirements(name, file):
    (source, there), install = copied(f"packages-{name}")[0], last(f"packages-{name}", "RUN")
    assert source == file
    assert f"/venv/bin/pip install --no-cache-dir -r {there}{file.split('/')[-1]} " in install


def test_without_torch_the_pins_are_the_spaces():
    whole = pins("requirements.txt")
    assert pins("deploy/requirements-cpu.txt") == {name: pin for name, pin in whole.items() if name not in TORCH}


def test_the_base_is_pinned_and_has_the_spaces_python():
    (_, base), *_ = instructions()
    version = re.fullmatch(r"PYTHON=python:(\d+\.\d+)\.\d+-slim-\w+", base)
    assert version
    assert version[1] == front_matter()["python_version"]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_the_image_is_reached_from_outside_and_runs_as_a_user(name):
    settings = Settings.from_env(environment(name))
    assert settings.server_name == "0.0.0.0"
    assert settings.server_port == int(last(name, "EXPOSE")) == 7860
    assert last(name, "USER") == "1000:1000"
    assert environment(name)["HF_HOME"] == last(name, "VOLUME")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Address, process and tree of the CPU variant: its files without write permission, its packages, another user."""
    root = tmp_path_factory.mktemp("image")
    tree, packages, writable = root / "app", root / "packages", root / "writable"
    packages.mkdir()
    writable.mkdir()
    os.chown(writable, NOBODY, NOBODY)
    requirements, _ = copied("packages-cpu")[0]
    link_installed(ROOT / requirements, packages)
    for source, there in copied("tree"):
        ours, theirs = ROOT / source, root / there.strip("/")
        if ours.is_dir():
            shutil.copytree(ours, theirs, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            theirs.mkdir(exist_ok=True)
            shutil.copy(ours, theirs)
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    variables = environment("cpu") | {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(packages),
        "HOME": str(writable),
        "TMPDIR": str(writable),
        "HF_HOME": str(writable),
    }
    entry = command(last("cpu", "CMD"), [*AS_NOBODY, sys.executable, "-S"])
    with app_running(variables, root / "log", command=entry, tree=tree) as (address, process):
        yield address, process, tree


@as_another_user
def test_it_answers_as_another_user_without_torch(image):
    address, process, _ = image
    about = Path(f"/proc/{process.pid}")
    assert f"Uid:\t{NOBODY}\t{NOBODY}" in (about / "status").read_text()
    assert "torch" not in (about / "maps").read_text()
    body = httpx.post(f"{address}/answer", json={"text": "What are the symptoms of diabetes?"}, timeout=60).json()
    assert "thirst" in body["answer"]
    assert body["finish_reason"] == "stop"


@as_another_user
def test_it_writes_nothing_into_its_tree(image):
    _, _, tree = image
    assert not list(tree.rglob("__pycache__"))
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([*AS_NOBODY, "touch", tree / "space/new"], check=True, capture_output=True)


@as_another_user
def test_the_health_check_tells_a_running_app_from_none(image):
    address, _, _ = image
    check = command(last("cpu", "HEALTHCHECK"), [sys.executable])

    def healthy(port):
        return subprocess.run(check, env={"GRADIO_SERVER_PORT": str(port)}, capture_output=True).returncode == 0

    assert healthy(httpx.URL(address).port)
    assert not healthy(free_port())


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setattr("space.engine.machine.has_torch", lambda: False)


@pytest.mark.usefixtures("no_torch")
def test_without_torch_a_gpu_makes_no_difference(monkeypatch):
    monkeypatch.setattr("space.engine.machine.has_gpu", lambda: True)
    monkeypatch.setattr("space.engine.llamacpp.LlamaCppEngine", lambda file, settings: file)
    assert load(Settings()) == DEMO_MODEL / "model-q4_0.gguf"


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("settings", [Settings(engine="transformers"), Settings(load_in_4bit=True)])
def test_what_needs_torch_is_said(settings):
    with pytest.raises(
        ModelError, match="The embedded model cannot be loaded without torch, which is not installed here;"
    ):
        load(settings)
