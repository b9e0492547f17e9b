"""What `python -m train check` finds out before anything is downloaded."""

from dataclasses import replace

import httpx2
import pytest
import torch
from transformers import AutoConfig

from space.settings import DEMO_MODEL
from train import check as stage
from train.errors import TrainError
from train.recipe import Recipe, read
from train.run import start


@pytest.fixture
def demo(tmp_path):
    return start(read("demo"), tmp_path / "run")


def table(run, capsys):
    passed = stage.check(run)
    return passed, capsys.readouterr().out


def test_the_demo_recipe_passes_offline_and_rehearses_all_of_it(demo, capsys):
    passed, said = table(demo, capsys)
    assert passed, said
    assert "packed steps, save, merge and reload on a tiny model" in said
    assert "FAILED" not in said


def test_whatever_would_stop_the_run_is_in_the_table_together(demo, capsys, monkeypatch):
    monkeypatch.setattr(stage, "rehearse", lambda recipe: "not tried")
    recipe = replace(demo.recipe, base="/nowhere", data=("missing.jsonl",), optimizer="adam")
    passed, said = table(replace(demo, recipe=recipe), capsys)
    assert not passed
    assert "The recipe's optimizer is 'adam', but must be one of" in said
    assert "'/nowhere' is neither a folder here nor a Hub repository" in said
    assert "There is no file missing.jsonl; correct the recipe's data." in said
    assert said.count("FAILED") == 3


@pytest.mark.parametrize(
    ("status", "headers", "sentence"),
    [
        (403, {"x-error-code": "GatedRepo"}, "owner/name is gated: accept its licence at"),
        (401, {}, "There is no model owner/name on the Hub, or HF_TOKEN may not read it"),
        (500, {}, "The Hub answered 500 for owner/name"),
    ],
)
def test_what_the_hub_answers_is_a_sentence(monkeypatch, status, headers, sentence):
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    kinds = {403: GatedRepoError, 401: RepositoryNotFoundError, 500: HfHubHTTPError}
    answer = httpx2.Response(status, headers=headers, request=httpx2.Request("GET", "http://127.0.0.1/"))

    def refuse(*_, **__):
        raise kinds[status]("refused", response=answer)

    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", refuse)
    with pytest.raises(TrainError, match=sentence):
        stage._reachable("owner/name", "model")


def test_the_hub_out_of_reach_is_a_sentence():
    with pytest.raises(TrainError, match="The Hub cannot be reached for owner/name; check this machine's connection"):
        stage._reachable("owner/name", "model")


def test_parameters_are_counted_as_peft_counts_them():
    from train.base import load_base, with_adapter

    recipe = read("demo")
    counted = stage.sizes(AutoConfig.from_pretrained(DEMO_MODEL), recipe)
    model = with_adapter(load_base(recipe, "cpu")[0], recipe)
    assert counted.adapter == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted.linear + counted.other == 4_094_720


def test_memory_falls_with_bits_and_checkpointing_and_rises_with_the_batch():
    of = stage.Sizes(700_000_000, 302_000_000, 3_000_000, 1152, 6912, 26, 262_144)
    plain = Recipe()

    def needed(**changes):
        return sum(stage.memory(of, replace(plain, **changes), torch.bfloat16).values())

    assert needed() < needed(bits=16) < needed(bits=32)
    assert needed(gradient_checkpointing=True) < needed() < needed(batch_size=8)
    assert 3 < needed() / stage.GIB < 8  # what the original claims: 8 GB


def test_too_little_memory_and_disk_are_said_with_both_figures(demo, capsys, monkeypatch):
    monkeypatch.setattr(stage, "rehearse", lambda recipe: "not tried")
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**20}))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Disk", (), {"free": 2**20}))
    passed, said = table(demo, capsys)
    assert not passed
    assert "GiB needed, 0.0 GiB free; make room in" in said
    assert "GiB needed, 0.0 GiB free; lower batch_size or max_length" in said
