"""All stages for real on a small draw of our own sample: NF4, LoRA, checkpoints, merge, evaluation, card, and the app."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from huggingface_hub import ModelCard

from tests.serving import app_running

ROOT = Path(__file__).parent.parent.parent
SMALL = ["--examples", "300", "--epochs", "0.2", "--eval-steps", "3", "--eval-examples", "10", "--rouge-examples", "2"]


def run(folder: Path) -> str:
    command = [sys.executable, "-m", "train", "all", "--recipe", "demo", "--run", str(folder), *SMALL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline") / "run"
    run(folder)
    return folder


@pytest.mark.timeout(300)
def test_all_stages_make_a_model_that_opens_plainly(finished: Path) -> None:
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(finished / "merged").num_parameters() > 2_000_000
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["merge"]["logit_change"] > metrics["merge"]["logit_rounding"]
    assert list(metrics["evaluation"]["scores"]) == ["base", "quantised base", "adapter", "merged"]
    assert metrics["evaluation"]["scores"]["merged"]["rouge_l"]["examples"] == 2
    assert (finished / "loss.png").stat().st_size > 1000


def test_its_records_and_its_card_are_of_this_run(finished: Path) -> None:
    metrics, info = (json.loads((finished / name).read_text()) for name in ("metrics.json", "training_info.json"))
    assert list(info["stages"]) == ["prepare", "finetune", "merge", "evaluate"]
    assert info["tokens"] == metrics["training"]["tokens"]
    text = (finished / "merged" / "README.md").read_text()
    assert f"{metrics['training']['examples']:,} examples" in text
    assert str(finished) not in text
    for kind, found in metrics["gguf"]["kinds"].items():
        assert f"| `model-{kind}.gguf` |" in text
        assert f"{found['perplexity']:,.4g} |" in text
    card = ModelCard(text).data
    assert card.license == "mit"
    assert card.eval_results


def test_its_gguf_file_is_as_likely_to_give_the_test_answers(finished: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from train.evaluate import Examples, losses
    from train.recipe import read
    from train.statistics import interval

    recipe, tokenizer = read(str(finished / "recipe.yaml")), AutoTokenizer.from_pretrained(finished / "merged")
    examples = Examples(finished / "data" / "test.parquet", tokenizer, recipe, most=recipe.eval_examples)
    merged = AutoModelForCausalLM.from_pretrained(finished / "merged", dtype=torch.float32)
    expected = interval(*losses(merged, examples)["answer"])["loss"]
    kinds = json.loads((finished / "metrics.json").read_text())["gguf"]["kinds"]
    assert kinds["bf16"]["loss"] == pytest.approx(expected, abs=1e-5)
    assert kinds["q8_0"]["loss"] == pytest.approx(expected, abs=1e-3)
    assert kinds["q4_0"]["loss"] == pytest.approx(expected, abs=0.02)


@pytest.mark.timeout(300)
def test_the_second_time_nothing_is_done_again(finished: Path) -> None:
    before = (finished / "training_info.json").read_bytes()
    assert run(finished).count("is up to date") == 5
    assert (finished / "training_info.json").read_bytes() == before


def test_the_app_answers_with_the_merged_model(finished: Path, tmp_path: Path) -> None:
    environment = os.environ | {"MODEL_ID": str(finished / "merged")}
    with app_running(environment, tmp_path / "log", seconds=90) as (address, _):
        body = httpx.post(f"{address}/answer", json={"text": "What are the symptoms of diabetes?"}, timeout=60).json()
    assert "thirst" in body["answer"]
    assert body["model"] == str(finished / "merged")
