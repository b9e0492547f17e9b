"""What the check before a run says of access, against a Hub on 127.0.0.1; its estimates; its exit status."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.hub.server import Refusal, hub
from tests.train.test_selfcheck import tiny
from train import check as stage
from train.__main__ import main
from train.base import load_base, with_adapter
from train.check import check, disk, memory, sizes
from train.recipe import Recipe
from train.run import start

ROOT = Path(__file__).parent.parent.parent
GEMMA = {
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "num_hidden_layers": 26,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 262_144,
}
"""The shape of google/gemma-3-1b-it: 999,885,952 parameters, 2,981,888 of them in the original project's adapter."""


@pytest.fixture(scope="module")
def endpoint():
    with hub() as running:
        for kind in ("model", "dataset"):
            running.repositories.add("someone/gated", kind=kind, gated=True)
        running.repositories.add("someone/open", {"config.json": json.dumps(GEMMA).encode()})
        running.repositories.add("owner/set", kind="dataset")
        running.fault("someone/broken", Refusal(500))
        yield running.endpoint


@pytest.fixture
def online(monkeypatch, endpoint, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "".join(template[1:]))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def quick(monkeypatch):
    """Without the rehearsal, which has a test of its own."""
    monkeypatch.setattr(stage, "rehearse", lambda recipe: "left out")


def table(recipe, folder, capsys):
    """Whether all passed, and the lines by name."""
    passed = check(start(recipe, folder))
    lines = [line.removeprefix("check: ") for line in capsys.readouterr().out.splitlines()]
    return passed, {line.split()[0]: line for line in lines}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("someone/gated", "someone/gated is gated: accept its licence at http.*/someone/gated and set HF_TOKEN"),
        ("someone/missing", "There is no {kind} someone/missing on the Hub, or HF_TOKEN may not read it"),
        ("someone/broken", "The Hub answered 500 for someone/broken"),
        ("./nowhere", "neither a folder here nor a Hub repository"),
        ("some one/else", "'some one/else' is not a valid repository name"),
    ],
)
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_may_not_be_read(online, quick, tmp_path, capsys, name, said, kind):
    import re

    sample = str(ROOT / "train" / "sample.jsonl")
    recipe = Recipe(base=name, data=(sample,)) if kind == "model" else Recipe(base="someone/open", data=(name,))
    passed, lines = table(recipe, tmp_path, capsys)
    assert not passed
    line = lines["base" if kind == "model" else "data"]
    assert "FAILED" in line
    assert re.search(said.format(kind=kind), line), line


def test_an_open_hub(online, quick, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=50 * 2**30))
    _, lines = table(Recipe(base="someone/open", data=("owner/set:all-processed@main",)), tmp_path, capsys)
    assert "someone/open may be read" in lines["base"]
    assert "owner/set may be read" in lines["data"]
    assert "999,885,952 parameters, 2,981,888 in the adapter" in lines["model"]
    assert "ok      about 6.2 GiB needed, 50.0 GiB free" in lines["disk"]


def test_a_hub_that_cannot_be_reached(quick, tmp_path, capsys, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    recipe = Recipe(base="someone/model", data=("someone/data",))
    _, lines = table(recipe, tmp_path / "run", capsys)
    assert "FAILED  The Hub cannot be reached for someone/model; check this machine's connection" in lines["base"]
    (tmp_path / "cache" / "datasets--someone--data").mkdir(parents=True)
    _, lines = table(recipe, tmp_path / "run", capsys)
    assert "ok      the Hub cannot be reached; someone/data is in the cache" in lines["data"]


def test_the_command_ends_with_status_1(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = ["--recipe", "demo", "--run", str(tmp_path)]
    assert main(["check", *arguments]) == 0
    with pytest.raises(SystemExit) as end:
        main(["check", *arguments, "--data", "nowhere.jsonl"])
    assert end.value.code == 1


# ---- the estimates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 16, 32])
def test_the_estimate_of_the_weights_is_what_they_take(tmp_path, bits):
    """On a model of layers large enough that bitsandbytes' blocks are full; in 16 bits a CPU computes in float32."""
    model = tiny(hidden_size=256, intermediate_size=1024, vocab_size=4200)
    model.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(ROOT / "space" / "demo").save_pretrained(tmp_path)
    recipe = Recipe(base=str(tmp_path), base_revision="", bits=bits)
    base, _ = load_base(recipe, "cpu")
    held = sum(parameter.numel() * parameter.itemsize for parameter in base.parameters())
    for state in (getattr(parameter, "quant_state", None) for parameter in base.parameters()):
        held += sum(t.numel() * t.itemsize for t in (state.absmax, state.state2.absmax)) if state else 0
    of = sizes(model.config, recipe)
    assert memory(of, recipe, torch.float32)["base"] == pytest.approx(held, rel=0.01)
    adapted = with_adapter(base, recipe)
    assert of.adapter == sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)


def test_the_estimates_of_the_published_run():
    from transformers import Gemma3TextConfig

    recipe = Recipe()
    of = sizes(Gemma3TextConfig(**GEMMA), recipe)
    parts = memory(of, recipe, torch.bfloat16)
    assert parts["base"] == int(of.linear * 0.516 + of.other * 2)
    assert sum(parts.values()) < 8 * 2**30  # what the original project claims
    less = memory(of, Recipe(gradient_checkpointing=True), torch.bfloat16)
    assert less["activations"] < parts["activations"] / 5
    assert memory(of, Recipe(batch_size=8), torch.bfloat16)["activations"] == 2 * parts["activations"]
    assert disk(of, recipe, download=True) - disk(of, recipe, download=False) == 2 * 999_885_952
