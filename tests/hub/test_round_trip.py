"""From training to an answer through the Hub: the notebook trains and publishes, the unmodified libraries fetch, the app answers.

Everything runs in processes that may turn to no other host. Trained is for a moment, on a small draw of our own sample, but
through all stages for real: NF4, LoRA, checkpoints, merge, evaluation, GGUF files, card.
"""

import json
import re
import subprocess
import sys
from hashlib import sha256

import httpx
import pytest
import yaml
from huggingface_hub import ModelCard

from tests.hub import notebook
from tests.hub.machine import ROOT, environment
from tests.hub.server import OWNER, READER
from tests.serving import app_running

MODEL, ADAPTER = "owner/medical", "owner/medical-adapter"
SMALL = {"examples": 300, "epochs": 0.2, "eval_steps": 3, "eval_examples": 10, "rouge_examples": 2}


def python(arguments, here):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=here, capture_output=True, text=True, timeout=230, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def here(the_hub, tmp_path_factory):
    """The environment of somebody who may read what was published."""
    return environment(the_hub.endpoint, tmp_path_factory.mktemp("reader"), HF_TOKEN=READER)


@pytest.fixture(scope="module")
def executed(the_hub, tmp_path_factory):
    """Where the notebook was executed, and what it said."""
    code = notebook.repository(tmp_path_factory.mktemp("code"))
    folder = tmp_path_factory.mktemp("notebook")
    demo = yaml.safe_load((ROOT / "train" / "recipes" / "demo.yaml").read_text())
    (folder / "small.yaml").write_text(yaml.safe_dump(demo | SMALL))
    said = notebook.execute(folder, the_hub.endpoint, CODE=code, RECIPE=folder / "small.yaml", REPO=MODEL)
    return folder, said


@pytest.fixture(scope="module")
def run(executed):
    return executed[0] / "medical-qa" / "runs" / "demo"


@pytest.fixture(scope="module")
def repository(the_hub, executed):
    return the_hub.repositories.get(MODEL)


# ---- what was trained -----------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_the_notebook_checks_trains_and_tells_no_token(executed):
    _, said = executed
    assert said.index("check: rehearsal") < said.index("Done: runs/demo") < said.index("publish: ")
    assert OWNER not in said


def test_all_stages_leave_their_figures(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["merge"]["logit_change"] > metrics["merge"]["logit_rounding"]
    assert list(metrics["evaluation"]["scores"]) == ["base", "quantised base", "adapter", "merged"]
    assert metrics["evaluation"]["scores"]["merged"]["rouge_l"]["examples"] == 2
    assert (run / "loss.png").stat().st_size > 1000


def test_its_records_and_its_card_are_of_this_run(run):
    metrics, info = (json.loads((run / name).read_text()) for name in ("metrics.json", "training_info.json"))
    assert list(info["stages"]) == ["prepare", "finetune", "merge", "evaluate"]
    assert info["tokens"] == metrics["training"]["tokens"]
    text = (run / "merged" / "README.md").read_text()
    assert f"{metrics['training']['examples']:,} examples" in text
    assert str(run) not in text
    for kind, found in metrics["gguf"]["kinds"].items():
        assert f"| `model-{kind}.gguf` |" in text
        assert f"{found['perplexity']:,.4g} |" in text
    card = ModelCard(text).data
    assert card.license == "mit"
    assert card.eval_results


def test_its_gguf_file_is_as_likely_to_give_the_test_answers(run):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from train.evaluate import Examples, losses
    from train.recipe import read
    from train.statistics import interval

    recipe, tokenizer = read(str(run / "recipe.yaml")), AutoTokenizer.from_pretrained(run / "merged")
    examples = Examples(run / "data" / "test.parquet", tokenizer, recipe, most=recipe.eval_examples)
    merged = AutoModelForCausalLM.from_pretrained(run / "merged", dtype=torch.float32)
    expected = interval(*losses(merged, examples)["answer"])["loss"]
    kinds = json.loads((run / "metrics.json").read_text())["gguf"]["kinds"]
    assert kinds["bf16"]["loss"] == pytest.approx(expected, abs=1e-5)
    assert kinds["q8_0"]["loss"] == pytest.approx(expected, abs=1e-3)
    assert kinds["q4_0"]["loss"] == pytest.approx(expected, abs=0.02)


@pytest.mark.timeout(300)
def test_the_second_time_nothing_is_done_again(run, here):
    before = (run / "training_info.json").read_bytes()
    said = python(["-m", "train", "all", "--recipe", str(run / "recipe.yaml"), "--run", str(run)], here)
    assert said.count("is up to date") == 5
    assert (run / "training_info.json").read_bytes() == before


# ---- what was published ---------------------------------------------------------------------------------------------


def test_what_is_published_is_what_was_trained(run, repository):
    files = repository.files()
    assert repository.private
    assert files["model.safetensors"] == (run / "merged" / "model.safetensors").read_bytes()
    assert files["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"`space/demo`" in files["NOTICE"]
    assert not any(str(run).encode() in body for body in files.values())


@pytest.fixture(scope="module")
def loaded(here, the_hub, repository, run, machine):
    """What somebody gets from the Hub, in one process: a file, a tag's model and tokenizer, and the adapter as its card says."""
    done = machine.run("publish", "--run", run, "--repo", ADAPTER, "--adapter")
    assert done.status == 0, done
    tag = next(iter(repository.tags))
    card = the_hub.repositories.get(ADAPTER).files()["README.md"].decode()
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code
    assert f'"{ADAPTER}"' in code[1]
    fetching = f"""
from hashlib import sha256
from huggingface_hub import hf_hub_download
from transformers import AutoModelForCausalLM, AutoTokenizer
print(sha256(open(hf_hub_download("{MODEL}", "model-q4_0.gguf"), "rb").read()).hexdigest())
print(AutoModelForCausalLM.from_pretrained("{MODEL}", revision="{tag}").num_parameters())
print(bool(AutoTokenizer.from_pretrained("{MODEL}", revision="{tag}").chat_template))
{code[1]}
print(model.peft_config["default"].r)
"""
    return python(["-c", fetching], here).split()


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
