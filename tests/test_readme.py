"""The README tells the truth: its front matter, its settings, its commands."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from bench.results import table as measured
from space.settings import table
from tests.fakes import FakeEngine
from tests.serving import serving
from train.__main__ import parser
from train.recipe import Recipe, read

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def front_matter():
    from huggingface_hub import metadata_load

    return metadata_load(ROOT / "README.md")


def pins(name):
    lines = (ROOT / name).read_text().splitlines()
    return {
        re.split(r"[\[=]", line)[0]: line.split("==")[1] for line in lines if line and not line.startswith(("#", "-r"))
    }


def test_the_space_runs_the_gradio_that_is_pinned():
    assert front_matter()["sdk_version"] == pins("requirements.txt")["gradio"]


def test_the_front_matter_is_what_spaces_reads():
    """Every key of the reference at huggingface.co/docs/hub/spaces-config-reference that this Space needs, as it must be."""
    matter = front_matter()
    assert (matter["sdk"], matter["app_file"], matter["python_version"]) == ("gradio", "app.py", "3.12")
    assert len(matter["short_description"]) <= 60
    assert (ROOT / matter["thumbnail"]).is_file()
    assert matter["title"]
    assert len(matter["emoji"]) == 1
    assert ord(matter["emoji"]) > 0x1F000
    assert {matter["colorFrom"], matter["colorTo"]} <= {
        "red",
        "yellow",
        "green",
        "blue",
        "indigo",
        "purple",
        "pink",
        "gray",
    }
    assert matter["license"] == "mit"
    assert "MIT" in (ROOT / "LICENSE").read_text()
    assert matter["models"] == [Recipe().base]
    assert matter["datasets"] == [data.partition(":")[0] for data in Recipe().data]
    assert all(re.fullmatch(r"[a-z-]+", tag) for tag in matter["tags"])
    assert re.fullmatch(r"\d+[mh]", matter["startup_duration_timeout"])


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-train.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_exactly(name):
    for line in (ROOT / name).read_text().splitlines():
        assert not line or line.startswith(("#", "-r")) or re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", line), line


def test_the_settings_table_is_the_settings():
    shown = re.search(r"<!-- settings.*?-->\n(.*?)\n<!-- /settings -->", README, re.DOTALL)
    assert shown
    assert shown[1] == table()


def test_the_promises_are_what_was_measured_and_kept():
    shown = re.search(r"<!-- promises.*?-->\n(.*?)\n<!-- /promises -->", README, re.DOTALL)
    assert shown
    assert shown[1] == measured("reliability")
    assert "**no**" not in shown[1]


def test_pictures_and_links_into_the_repository_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_curl_examples_work():
    blocks = re.findall(r"(?:^    .*\n)+", README, re.MULTILINE)
    commands = [shlex.split(block) for block in blocks if block.strip().startswith("curl")]
    assert len(commands) == 3
    with serving(FakeEngine("Thirst and tiredness.")) as address:
        for command in commands:
            moved = [part.replace("http://127.0.0.1:7860", address) for part in command]
            body = json.loads(subprocess.run(moved, capture_output=True, check=True, timeout=60).stdout)
            assert body.get("answer") == "Thirst and tiredness." or body.get("state") == "ready", body


def test_the_python_example_works(capsys):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    with serving(FakeEngine("Thirst and tiredness.")) as address:
        exec(code[1].replace("http://127.0.0.1:7860", address), {})
    assert "Thirst and tiredness." in capsys.readouterr().out


def test_every_command_of_the_factory_is_one_that_it_knows():
    """Also those of the notebook: the options exist, and take such values."""
    notebook = json.loads((ROOT / "notebooks" / "train.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    text = "\n".join([README, *cells])
    found = re.findall(r"python -m (train [^#`\n]+|train)(?=[#`\n])", text) + re.findall(r"-m (train finetune)`", text)
    stages = set()
    for command in found:
        options = parser().parse_args(shlex.split(command)[1:])
        stages.add(options.stage)
        if "recipe" in options and "$" not in options.recipe and not options.recipe.startswith("my"):
            read(options.recipe)
    assert stages >= {"all", "publish", "deploy", "remote", "gguf", "demo", "finetune"}


@pytest.mark.parametrize("section", ["Put it on a Space", "Train on a rented machine", "Train in a notebook"])
def test_a_way_to_run_it_elsewhere_takes_ten_lines_at_most(section):
    text = re.search(rf"^## {section}\n\n(.*?)\n\n## ", README, re.DOTALL | re.MULTILINE)
    assert text
    assert len(text[1].splitlines()) <= 10


def test_the_layout_names_what_is_there():
    layout = re.search(r"```\napp\.py.*?```", README, re.DOTALL)
    assert layout
    parent = ROOT
    for line in layout[0].splitlines()[1:-1]:
        name = line.split()[0]
        parent = parent if line.startswith("  ") else ROOT
        assert (parent / name).exists(), name
        if not line.startswith(" ") and name.endswith("/"):
            parent = ROOT / name
