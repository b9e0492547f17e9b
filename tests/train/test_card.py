"""The card says what the stages recorded, and the Hub can read it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from huggingface_hub import ModelCard

from tests.train.test_evaluate import BEFORE, models
from train import card as stage
from train import record
from train.card import card
from train.errors import TrainError
from train.evaluate import summary
from train.recipe import Recipe
from train.run import start

GEMMA_NOTICE = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
TRAINING = {
    "seconds": 7200.0, "steps": 2188, "tokens": 9_876_543, "examples": 34_567, "rows": 20_000, "dropped": 12,
    "trainable_parameters": 2_981_888, "device": "NVIDIA T4",
}  # fmt: skip
REPORT: dict[str, Any] = {
    "rows": 239_357,
    "revisions": {"lavita/medical-qa-datasets:all-processed": "a" * 40},
    "splits": {"train": 35_000, "validation": 7_500, "test": 7_500},
    "sources": {
        "healthcaremagic": {"used": 30_000, "licence": "not stated; from healthcaremagic.com"},
        "medqa": {"used": 20_000, "licence": "MIT (jind11/MedQA)"},
        "cord19": {"used": 0, "licence": "each paper's"},
    },
}
INFO = {"stages": {"finetune": {"seconds": 7300, **record.environment()}}}


def metrics() -> dict[str, Any]:
    way = {"loss": 1.5, "interval": [1.4, 1.6]}
    merge = {
        "kept": "dequantised base", "validation": {"16-bit base": {**way, "loss": 1.6}, "dequantised base": way},
        "logit_rounding": 0.004, "logit_change": 0.31, "logit_bound": 0.05,
    }  # fmt: skip
    return {"training": TRAINING, "merge": merge, "evaluation": summary(models(), BEFORE)}


def text(recipe: Recipe | None = None, licence: str = "gemma") -> str:
    return card(recipe or Recipe(), metrics(), INFO, REPORT, licence)


def test_the_hub_reads_the_front_matter_and_every_result() -> None:
    data = ModelCard(text()).data
    assert (data.license, data.base_model, data.datasets) == (
        "gemma", "google/gemma-3-1b-it", ["lavita/medical-qa-datasets"],
    )  # fmt: skip
    assert (data.library_name, data.pipeline_tag, data.language) == ("transformers", "text-generation", "en")
    results = {result.metric_name: result for result in data.eval_results or []}
    scores = metrics()["evaluation"]["scores"]["merged"]
    assert results["perplexity of answers"].metric_value == scores["test"]["answer"]["perplexity"]
    assert results["perplexity of whole sequences"].metric_value == scores["test"]["sequence"]["perplexity"]
    assert results["ROUGE-L of written answers"].metric_value == pytest.approx(0.35)
    medqa = results["accuracy, likeliest option"]
    assert (medqa.dataset_type, medqa.dataset_split, medqa.metric_value) == (
        "GBaker/MedQA-USMLE-4-options-hf",
        "test",
        0.5,
    )


def test_it_says_what_a_reader_has_to_know() -> None:
    found = " ".join(text().split())
    for words in (
        "`google/gemma-3-1b-it`", "## Intended use", "## Limits", "Not for emergencies", "9,876,543 tokens", "2 h 0 min",
        "NVIDIA T4", "rank 16", "Merged on the dequantised base", "16-bit base: 1.6000", "at most 5% is allowed",
        "| healthcaremagic | 30,000 | not stated; from healthcaremagic.com |", "| medqa | 20,000 | MIT (jind11/MedQA) |",
        "| answers | test | 2 | 2.0000", "better by more than its interval", "MedQA (USMLE, 4 options)", "> So.", "> Because.",
        GEMMA_NOTICE, f"revision `{'a' * 40}`", f"torch {INFO['stages']['finetune']['versions']['torch']}",
    ):  # fmt: skip
        assert words in found, words
    assert "cord19" not in found


def test_another_base_has_another_licence_and_no_word_of_gemmas_terms() -> None:
    found = text(Recipe(base="someone/other"), "apache-2.0")
    assert ModelCard(found).data.license == "apache-2.0"
    assert "Gemma" not in found


def test_paths_of_the_machine_that_trained_are_not_published(tmp_path) -> None:
    data = (str(tmp_path / "rows.jsonl"), "../elsewhere/more.csv")
    found = text(Recipe(base=str(tmp_path / "base"), data=data))
    assert str(tmp_path) not in found
    assert "elsewhere" not in found
    assert "`rows.jsonl`" in found
    assert ModelCard(found).data.base_model is None


def test_the_licence_is_the_bases_own(tmp_path) -> None:
    recipe = Recipe(base=str(tmp_path), base_revision="")
    with pytest.raises(TrainError, match="states its licence"):
        stage._licence(recipe)
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# x\n")
    assert stage._licence(recipe) == "apache-2.0"
    assert stage._licence(Recipe(base="space/demo", base_revision="")) == "mit"


def test_a_missing_stage_is_named(tmp_path) -> None:
    run = start(Recipe(base="space/demo", base_revision=""), tmp_path)
    run.merged.mkdir()
    run.record(training=TRAINING, merge={})
    with pytest.raises(TrainError, match="python -m train evaluate"):
        stage.write(run)


def test_each_stage_leaves_its_time_machine_and_versions(tmp_path) -> None:
    run = start(replace(Recipe(), seed=7), tmp_path)
    run.record(data={"fingerprint": "abc"}, training=TRAINING)
    record.note(run, "prepare", 12.34)
    record.note(run, "finetune", 56.0)
    found = json.loads((tmp_path / "training_info.json").read_text())
    assert (found["seed"], found["data"]["fingerprint"], found["tokens"]) == (7, "abc", 9_876_543)
    assert found["stages"]["prepare"]["seconds"] == 12.3
    assert found["stages"]["finetune"]["hardware"]["cores"] >= 1
    assert {"python", "torch", "transformers", "peft", "bitsandbytes"} <= set(found["stages"]["finetune"]["versions"])
    assert found["recipe"]["lora_r"] == 16
