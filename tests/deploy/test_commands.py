"""The commands of README.md and deploy/README.md for containers and clouds, held against the files they are about."""

import inspect
import re
import shlex

import pytest

from deploy.predict import Runner
from tests.deploy.dockerfile import ROOT, last, stages

PORT = last("cpu", "EXPOSE")


def commands(page, program):
    """The words of each command of `program` in the page's indented blocks, without the variables set before it."""
    blocks = re.findall(r"(?:^    .*\n)+", (ROOT / page).read_text(), re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [re.sub(r"^\s*(?:\w+=\S+ )*", "", line) for line in lines]
    return [shlex.split(line) for line in found if line.startswith(f"{program} ")]


def after(words, option):
    return words[words.index(option) + 1]


def test_docker_builds_and_runs_what_is_there():
    built, ran, composed = commands("README.md", "docker")
    assert built[:2] == ["docker", "build"]
    assert (ROOT / after(built, "-f")).is_file()
    assert after(built, "--target") in stages()
    assert ran[-1] == after(built, "-t")
    assert after(ran, "-p") == f"{PORT}:{PORT}"
    assert composed[1] == "compose"
    assert (ROOT / after(composed, "-f")).is_file()


def test_cog_is_given_a_file_and_an_input_that_exist():
    asked, pushed = commands("README.md", "cog")
    for words in (asked, pushed):
        assert (ROOT / after(words, "-f")).is_file()
    assert after(asked, "-i").split("=")[0] in inspect.signature(Runner.run).parameters


@pytest.mark.parametrize(
    ("program", "deploys", "port"),
    [
        ("aws", "create-express-gateway-service", f"containerPort={PORT}"),
        ("gcloud", "deploy", f"httpGet.port={PORT}"),
        ("az", "create", f"--target-port {PORT}"),
    ],
)
def test_a_cloud_asks_the_port_and_pulls_what_was_pushed(program, deploys, port):
    deploying = [words for words in commands("deploy/README.md", program) if deploys in words][-1]
    pushed = [words[-1] for words in commands("deploy/README.md", "docker") if words[1] == "push"]
    text = " ".join(deploying)
    assert port in text
    assert any(image in text for image in pushed)
    assert re.search(r"maxTaskCount=1\b|--max-(?:instances|replicas) 1\b", text), "the line is kept in one process"


@pytest.mark.parametrize("heading", ["Docker", "In front of vLLM", "Replicate"])
def test_each_way_takes_ten_lines_at_most(heading):
    section = re.search(rf"^## {heading}\n(.*?)^## ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert section
    assert len([line for line in section[1].splitlines() if line]) <= 10
