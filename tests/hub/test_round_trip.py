"""From training to an answer through the Hub: each step by the unmodified libraries, in a process that may turn to no other host."""

import re
import subprocess
import sys
from hashlib import sha256

import httpx
import pytest

from tests.hub.machine import ROOT, environment
from tests.hub.server import READER
from tests.serving import app_running

MODEL, ADAPTER = "owner/medical", "owner/medical-adapter"
SMALL = ["--examples", "150", "--epochs", "0.2", "--eval-steps", "3", "--eval-examples", "4", "--rouge-examples", "1"]


def python(code, here, **more):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=here | more,
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()


@pytest.fixture(scope="module")
def here(the_hub, tmp_path_factory):
    """The environment of somebody who may read what was published."""
    return environment(the_hub.endpoint, tmp_path_factory.mktemp("reader"), HF_TOKEN=READER)


@pytest.fixture(scope="module")
def run(here, machine, tmp_path_factory):
    """Trained for a moment, and published twice."""
    folder = tmp_path_factory.mktemp("round") / "run"
    python(
        f"from train.__main__ import main; main(['all', '--recipe', 'demo', '--run', {str(folder)!r}, *{SMALL}])", here
    )
    for more in (["--repo", MODEL], ["--repo", ADAPTER, "--adapter"]):
        done = machine.run("publish", "--run", folder, *more)
        assert done.status == 0, done
    return folder


@pytest.fixture(scope="module")
def repository(the_hub, run):
    return the_hub.repositories.get(MODEL)


@pytest.mark.timeout(240)
def test_what_is_published_is_what_was_trained(run, repository):
    files = repository.files()
    assert files["model.safetensors"] == (run / "merged" / "model.safetensors").read_bytes()
    assert files["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"`space/demo`" in files["NOTICE"]
    assert not any(str(run).encode() in body for body in files.values())


@pytest.fixture(scope="module")
def loaded(here, the_hub, repository):
    """What somebody gets from the Hub, in one process: a file, a tag's model and tokenizer, and the adapter as its card says."""
    tag = next(iter(repository.tags))
    card = the_hub.repositories.get(ADAPTER).files()["README.md"].decode()
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code
    assert f'"{ADAPTER}"' in code[1]
    return python(
        f"""
from hashlib import sha256
from huggingface_hub import hf_hub_download
from transformers import AutoModelForCausalLM, AutoTokenizer
print(sha256(open(hf_hub_download("{MODEL}", "model-q4_0.gguf"), "rb").read()).hexdigest())
print(AutoModelForCausalLM.from_pretrained("{MODEL}", revision="{tag}").num_parameters())
print(bool(AutoTokenizer.from_pretrained("{MODEL}", revision="{tag}").chat_template))
{code[1]}
print(model.peft_config["default"].r)
""",
        here,
    )


def test_one_file_is_fetched_and_a_tag_is_loaded(loaded, repository):
    sha, parameters, template, _ = loaded
    assert sha == sha256(repository.files()["model-q4_0.gguf"]).hexdigest()
    assert int(parameters) > 2_000_000
    assert template == "True"


def test_the_adapter_is_loaded_as_its_card_says(loaded):
    assert loaded[-1] == "16"


def test_the_app_answers_with_it(here, repository, tmp_path):
    tag = next(iter(repository.tags))
    with app_running(here | {"MODEL_ID": MODEL, "MODEL_REVISION": tag}, tmp_path / "log", seconds=90) as (address, _):
        body = httpx.post(f"{address}/answer", json={"text": "What are the symptoms of diabetes?"}, timeout=60).json()
    assert "thirst" in body["answer"]
    assert (body["model"], body["revision"]) == (MODEL, repository.head)
