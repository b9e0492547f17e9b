"""Merging proves its result, keeps the better way, and leaves nothing that is half done."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from train import merge as stage
from train.base import load_base, with_adapter
from train.errors import TrainError
from train.recipe import Recipe
from train.run import MADE_FROM, Run, start

RECIPE = Recipe(base="space/demo", base_revision="", bits=4, lora_r=2, eval_examples=4, benchmarks=())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose adapter has random weights, as if it had learned something."""
    run = start(RECIPE, tmp_path_factory.mktemp("trained"))
    run.data.mkdir()
    rows = [{"question": f"What is illness {n}?", "answer": "An illness.", "source": "x"} for n in range(4)]
    pq.write_table(pa.Table.from_pylist(rows), run.data / "validation.parquet")
    adapted = with_adapter(load_base(replace(RECIPE, bits=32), "cpu")[0], RECIPE)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
    adapted.save_pretrained(run.adapter)
    return run.folder


def copy(trained: Path, tmp_path: Path, change: Any = None) -> Run:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    if change:
        file = folder / "adapter" / "adapter_model.safetensors"
        save_file({name: change(name, weight) for name, weight in load_file(file).items()}, file)
    return Run(RECIPE, folder)


def test_the_merged_model_writes_as_base_and_adapter_do_and_opens_plainly(trained, tmp_path) -> None:
    from peft import PeftModel

    run = copy(trained, tmp_path)
    stage.merge(run)
    found = run.recorded("merge")
    assert set(found["validation"]) == {"16-bit base", "dequantised base"}
    assert found["validation"][found["kept"]]["loss"] == min(way["loss"] for way in found["validation"].values())
    assert found["logit_rounding"] <= found["logit_bound"] < found["logit_change"]
    assert not (run.folder / "checkpoints").exists()

    model = AutoModelForCausalLM.from_pretrained(run.merged)
    tokenizer = AutoTokenizer.from_pretrained(run.merged)
    assert model.dtype == torch.bfloat16
    assert not hasattr(model.config, "quantization_config")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.generation_config.eos_token_id == [1, 106] or model.generation_config.eos_token_id
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained("space/demo").chat_template
    base, _ = stage._adapted(run, 32 if found["kept"] == "16-bit base" else 4)
    assert isinstance(base, PeftModel)
    ids = torch.tensor([[2, 105, 50, 60, 70]])
    expected, got = base(ids).logits, model.float()(ids).logits
    assert (got - expected).square().mean().sqrt() < stage.LOGIT_BOUND * expected.std()


def test_without_quantisation_there_is_one_way(trained, tmp_path) -> None:
    run = Run(replace(RECIPE, bits=16), copy(trained, tmp_path).folder)
    stage.merge(run)
    assert list(run.recorded("merge")["validation"]) == ["16-bit base"]


def test_nan_in_the_adapter_is_one_sentence(trained, tmp_path) -> None:
    run = copy(trained, tmp_path, lambda name, weight: weight * float("nan") if "layers.2" in name else weight)
    with pytest.raises(TrainError, match=r"cannot be merged .*NaN") as caught:
        stage.merge(run)
    assert "\n" not in str(caught.value)
    assert not run.merged.exists()


def test_an_adapter_that_does_nothing_is_refused(trained, tmp_path) -> None:
    run = copy(trained, tmp_path, lambda _, weight: weight * 0)
    with pytest.raises(TrainError, match="changed nothing"):
        stage.merge(run)
    assert not run.merged.exists()
    assert not run.recorded("merge")


def test_a_result_that_is_not_what_was_merged_is_refused(trained, tmp_path, monkeypatch) -> None:
    run, build = copy(trained, tmp_path), stage._build

    def spoilt(run: Run, bits: int, folder: Path) -> Any:
        before = build(run, bits, folder)
        file = folder / "model.safetensors"
        weights = load_file(file)
        save_file(
            {name: weight.flip(0).contiguous() if "down_proj" in name else weight for name, weight in weights.items()},
            file,
            {"format": "pt"},
        )
        return before

    monkeypatch.setattr(stage, "_build", spoilt)
    with pytest.raises(TrainError, match="logits differ"):
        stage.merge(run)
    assert not run.merged.exists()


@pytest.mark.parametrize("moment", ["before the record", "before the folder is in place"])
def test_a_kill_between_folder_and_record_merges_again(trained, tmp_path, monkeypatch, moment) -> None:
    run = copy(trained, tmp_path)
    scored: list[int] = []
    monkeypatch.setattr(stage, "_score", lambda run, bits: scored.append(bits) or {"loss": float(bits)})
    stage.merge(run)
    known = json.loads(run.metrics.read_text())
    stage.merge(run)
    assert len(scored) == 2
    if moment == "before the record":
        run.metrics.write_text(json.dumps({name: part for name, part in known.items() if name != "merge"}))
    else:
        (run.merged / MADE_FROM).unlink()
    stage.merge(run)
    assert len(scored) == 4
    assert run.recorded("merge") == known["merge"]
