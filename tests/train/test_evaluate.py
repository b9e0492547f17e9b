"""Scores: batches change nothing, the changes are taken against the right model, and what was scored stays scored."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from train import evaluate as stage
from train.base import load_base, with_adapter
from train.evaluate import summary
from train.likelihood import token_losses
from train.loss import answer_loss
from train.packing import Encoded, collate
from train.recipe import Recipe, read
from train.run import MADE_FROM, start
from train.statistics import average, proportion

DEMO = Recipe(base="space/demo", base_revision="", bits=32, benchmarks=())


@pytest.fixture(scope="module")
def demo() -> Any:
    return load_base(DEMO, "cpu")


def examples(count: int = 9) -> list[Encoded]:
    random = np.random.default_rng(1)
    lengths = random.integers(5, 60, count)
    return [Encoded(random.integers(7, 4000, n, dtype=np.int32), int(random.integers(1, n))) for n in lengths]


@pytest.mark.parametrize("batch", [1, 100, 8192])
def test_batches_of_examples_give_the_sums_of_one_at_a_time(demo: Any, batch: int) -> None:
    model, _ = demo
    several = examples()
    found = token_losses(model, several, batch)
    for index, example in enumerate(several):
        total, count = answer_loss(model, collate(several, [[index]], len(example)))
        assert len(found[index]) == count
        assert found[index].sum() == pytest.approx(total.item(), rel=1e-5)


def test_an_adapter_is_scored_and_not_only_the_base_below_it(demo: Any) -> None:
    adapted = with_adapter(load_base(DEMO, "cpu")[0], replace(DEMO, lora_dropout=0.0))
    before = token_losses(adapted, examples(3))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    after = token_losses(adapted, examples(3))
    assert np.abs(after[0] - before[0]).max() > 0.01
    assert before[0] == pytest.approx(token_losses(demo[0], examples(3))[0], rel=1e-4)


def raw(loss: float, right: list[bool], rouge: list[float], answers: str = "") -> dict[str, Any]:
    splits = ("train", "validation", "test")
    return {
        "losses": {split: {"answer": [loss * 10, loss * 30], "sequence": [loss * 20, loss * 60]} for split in splits},
        "tokens": {split: {"answer": [10, 30], "sequence": [20, 60]} for split in splits},
        "sources": ["one", "other"],
        "choices": {"medqa": {"plain": right, "normalised": right}} if right else {},
        "rouge": rouge,
        "samples": [{"question": "Why?", "answer": answers}],
    }


BEFORE = {"adapter": "quantised base", "merged": "base"}


def models(merged: float = 1.5) -> dict[str, Any]:
    return {
        "base": raw(2.0, [True, False, False, False], [0.1, 0.2], "So."),
        "quantised base": raw(3.0, [], []),
        "adapter": raw(1.0, [], []),
        "merged": raw(merged, [True, True, False, False], [0.3, 0.4], "Because."),
    }


def test_each_change_is_against_the_model_that_the_scored_one_was_made_from() -> None:
    scores = summary(models(), BEFORE)["scores"]
    assert scores["merged"]["test"]["answer"]["change"]["loss"] == pytest.approx(-0.5)
    assert scores["adapter"]["test"]["answer"]["change"]["loss"] == pytest.approx(-2.0)
    assert "change" not in scores["base"]["test"]["answer"]
    assert scores["merged"]["multiple_choice"]["medqa"]["plain"]["change"]["mean"] == pytest.approx(0.25)
    assert scores["merged"]["rouge_l"]["change"]["mean"] == pytest.approx(0.2)
    assert set(scores["merged"]["test"]["answer"]["by_source"]) == {"one", "other"}


@pytest.mark.parametrize(("merged", "improved"), [(1.5, True), (2.0, False), (2.5, False)])
def test_the_record_says_whether_the_test_loss_fell_by_more_than_its_interval(merged: float, improved: bool) -> None:
    found = summary(models(merged), BEFORE)
    assert found["improved"] is improved
    assert ("better by more than its interval" in found["verdict"]) is improved


def test_base_and_model_answer_the_same_questions() -> None:
    assert summary(models(), BEFORE)["samples"] == [{"question": "Why?", "base": "So.", "answer": "Because."}]


def test_an_interrupted_evaluation_goes_on_with_the_next_model(tmp_path, monkeypatch) -> None:
    run = start(replace(DEMO, bits=4), tmp_path)
    for folder in (run.data, run.adapter, run.merged):
        folder.mkdir()
        (folder / MADE_FROM).write_text("x")
    for split in stage.SPLITS:
        (run.data / f"{split}.parquet").write_bytes(b"rows")
    scored: list[str] = []

    def measured(_: Any, model: Any, __: Any) -> Any:
        if model.name == "adapter" and "adapter" not in scored:
            scored.append("adapter")
            raise KeyboardInterrupt
        scored.append(model.name)
        return models()[model.name]

    monkeypatch.setattr(stage, "_measured", measured)
    monkeypatch.setattr(stage, "_written", lambda *_: {})
    with pytest.raises(KeyboardInterrupt):
        stage.evaluate(run)
    assert not run.metrics.exists()
    stage.evaluate(run)
    assert scored == ["base", "quantised base", "adapter", "adapter", "merged"]
    stage.evaluate(run)
    assert len(scored) == 5
    (run.merged / MADE_FROM).write_text("y")
    stage.evaluate(run)
    assert scored[5:] == ["merged"]
    assert json.loads(run.metrics.read_text())["evaluation"]["improved"] is True


def test_without_quantisation_base_and_adapter_are_compared_directly(tmp_path) -> None:
    run = start(DEMO, tmp_path)
    for folder in (run.data, run.adapter, run.merged):
        folder.mkdir()
        (folder / MADE_FROM).write_text("x")
    for split in stage.SPLITS:
        (run.data / f"{split}.parquet").write_bytes(b"rows")
    assert [(model.name, model.before) for model in stage._models(run)] == [
        ("base", ""), ("adapter", "base"), ("merged", "base"),
    ]  # fmt: skip


def test_wilsons_interval() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for right, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = proportion([True] * right + [False] * (count - right))
        assert found["interval"] == pytest.approx([low, high], abs=2e-4)


def test_an_average_of_paired_differences_has_their_spread_only() -> None:
    before = np.random.default_rng(0).uniform(0, 1, 50)
    found = average(list(before + 0.1 - before))
    assert found["interval"] == pytest.approx([0.1, 0.1])


def test_every_shipped_recipe_says_what_it_evaluates() -> None:
    assert read("main").benchmarks == ("medmcqa", "medqa")
    assert read("demo").benchmarks == ()
