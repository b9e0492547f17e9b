"""The start-up check passes on a sound machine, and sees each of the silent failures it is there for."""

import json
from pathlib import Path

import pytest
import torch

from train.base import with_adapter
from train.errors import TrainError
from train.recipe import Recipe, read
from train.selfcheck import Check, refuse, selfcheck

ROOT = Path(__file__).parent.parent.parent
WINDOW = 24
"""The tiny model's sliding window, shorter than the examples."""


def tiny(**changes):
    """A Gemma 3 with both kinds of attention and weights large enough that every leak shows; no dropout, float32."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    sizes = {
        "vocab_size": 700,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "max_position_embeddings": 512,
        "sliding_window": WINDOW,
        "initializer_range": 0.2,
        **changes,
    }
    torch.manual_seed(1)
    return Gemma3ForCausalLM(Gemma3TextConfig(bos_token_id=2, eos_token_id=[1, 106], pad_token_id=0, **sizes))


def adapted(model):
    """With an adapter whose both halves have gradients, as after some steps."""
    model = with_adapter(model, Recipe(lora_r=4, lora_dropout=0.0))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from transformers import AutoTokenizer

    from train.demo import make_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    rows = (ROOT / "train" / "sample.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    make_tokenizer([json.loads(row)["output"] for row in rows], vocabulary=700).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def failed(checks):
    return [check.name for check in checks if not check.passed]


@pytest.mark.parametrize("name", ["demo", "seed"])
def test_a_sound_machine_passes(tokenizer, name):
    checks = selfcheck(adapted(tiny()), tokenizer, read(name))
    assert failed(checks) == []
    assert len(checks) == (4 if name == "demo" else 2)
    refuse(checks)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_sound_machine_passes_in_16_bits_and_with_dropout(tokenizer, dtype):
    model = with_adapter(tiny().to(dtype), Recipe(lora_dropout=0.5))
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert failed(selfcheck(model, tokenizer, Recipe())) == []
    assert not any(module.training for module in model.modules())
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.5}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def ones(kwargs):
    return kwargs | {"attention_mask": torch.ones_like(kwargs["input_ids"])}


def cache(kwargs):
    return kwargs | {"use_cache": True}


def positions_run_on(kwargs):
    return kwargs | {"position_ids": None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("mistake", [ones, cache, positions_run_on])
def test_examples_that_leak_into_one_another_are_seen(tokenizer, mistake, dtype):
    model = adapted(tiny().to(dtype))
    model.get_base_model().model.register_forward_pre_hook(
        lambda _, inputs, kwargs: (inputs, mistake(kwargs)), with_kwargs=True
    )
    checks = selfcheck(model, tokenizer, Recipe())
    assert set(failed(checks)) >= {"packing isolation (beside another example)"}
    with pytest.raises(TrainError, match="packing isolation"):
        refuse(checks)
    assert failed(selfcheck(model, tokenizer, Recipe(packing=False))) == []  # padding does not need it


def test_gradients_that_an_evaluation_changes_are_seen(tokenizer):
    """What bitsandbytes does on an AVX512-BF16 CPU, played on any: after an eval forward no gradient passes a layer."""
    model = adapted(tiny())
    spoilt = []

    def forward(layer, inputs, output):
        spoilt.extend([] if layer.training else [True])
        return output.detach() if spoilt else output

    model.get_base_model().model.layers[1].mlp.register_forward_hook(forward)
    checks = selfcheck(model, tokenizer, Recipe())
    assert failed(checks) == ["gradient after an evaluation"]
    with pytest.raises(TrainError, match="gradient after an evaluation"):
        refuse(checks)


def test_a_nan_does_not_pass(tokenizer):
    model = adapted(tiny())
    with torch.no_grad():
        model.get_base_model().model.norm.weight[0] = torch.nan
    assert len(failed(selfcheck(model, tokenizer, Recipe()))) == 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}", "<bos>"),
        ("'<end_of_turn>\\n'", "'<eos>\\n'", "end_of_turn"),
        ("turn.content | trim", "turn.content | trim | upper", "learned"),
    ],
)
def test_a_template_that_does_not_round_trip_is_seen(tokenizer, old, new, said):
    template = tokenizer.chat_template
    assert old in template
    try:
        tokenizer.chat_template = template.replace(old, new)
        checks = selfcheck(adapted(tiny()), tokenizer, Recipe())
    finally:
        tokenizer.chat_template = template
    assert failed(checks) == ["template round trip"]
    assert said in checks[-1].detail


def test_the_refusal_says_what_failed():
    with pytest.raises(TrainError, match="isolation failed \\(by much\\)"):
        refuse([Check("this", True, ""), Check("isolation", False, "by much")])
