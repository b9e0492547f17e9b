"""The base model in each number format, its adapter, and a sentence for each thing that can be wrong with it."""

import json
import shutil

import pytest
import torch

from tests.train.test_selfcheck import ROOT, tiny, tokenizer  # noqa: F401  the fixture
from train import base
from train.base import load_base, with_adapter
from train.errors import TrainError
from train.loss import answer_loss
from train.packing import collate, encode
from train.recipe import Recipe
from train.selfcheck import selfcheck


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):  # noqa: F811
    folder = tmp_path_factory.mktemp("base")
    tiny(hidden_size=128, initializer_range=0.05).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def broken(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "broken")


def recipe(folder, **changes):
    return Recipe(base=str(folder), lora_r=4, **changes)


def batch(tokenizer, of):  # noqa: F811
    example = encode("What helps?", "Rest and water help.", tokenizer, of)
    return collate([example, example], [[0, 1]], 512)


def layers(model):
    import bitsandbytes

    return [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]


def test_four_bits_are_nf4_with_double_quantisation(folder):
    model, tokenizer = load_base(recipe(folder), "cpu")  # noqa: F811
    quantised = layers(model)
    assert len(quantised) == 3 * 7
    assert {(layer.weight.quant_type, layer.weight.quant_state.nested) for layer in quantised} == {("nf4", True)}
    assert {layer.support_avx512bf16_for_cpu for layer in quantised} == {False}
    assert type(model.lm_head) is torch.nn.Linear
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert tokenizer.chat_template


@pytest.mark.parametrize("bits", [16, 32])
def test_on_a_cpu_all_else_is_float32(folder, bits):
    model, _ = load_base(recipe(folder, bits=bits), torch.device("cpu"))
    assert not layers(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float16), ((6, 1), torch.float16)],
)
def test_the_number_format_follows_the_capability(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert base.compute_dtype(torch.device("cuda", 0)) is dtype
    assert base.compute_dtype(torch.device("cpu")) is torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", [4, 16, 32])
def test_the_number_formats_of_gpus(folder, monkeypatch, bits, dtype):
    """The same code with a GPU's number format, computed on the CPU: near the float32 loss, and the check passes."""
    chosen = recipe(folder, bits=bits)
    exact, tokenizer = load_base(chosen, "cpu")  # noqa: F811
    expected, _ = answer_loss(exact, batch(tokenizer, chosen))
    monkeypatch.setattr(base, "compute_dtype", lambda device: dtype)
    model, _ = load_base(chosen, "cpu")
    residual = torch.bfloat16 if dtype is torch.bfloat16 and bits != 32 else torch.float32
    assert model.model.embed_tokens.weight.dtype is model.model.norm.weight.dtype is residual
    assert model.lm_head.weight is model.model.embed_tokens.weight
    seen = []
    model.model.layers[0].register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    model = with_adapter(model, chosen)
    total, _ = answer_loss(model, batch(tokenizer, chosen))
    assert float(total) == pytest.approx(float(expected), rel=0.02)
    assert total.dtype is torch.float32
    assert set(seen) == {residual}
    linear = model.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    assert (linear.compute_dtype if bits == 4 else linear.weight.dtype) is (torch.float32 if bits == 32 else dtype)
    assert all(check.passed for check in selfcheck(model, tokenizer, chosen))


def test_the_adapter_alone_trains_and_is_the_same_for_a_seed(folder):
    chosen = recipe(folder, lora_modules=("q_proj", "v_proj"))
    first, second = (with_adapter(load_base(chosen, "cpu")[0], chosen) for _ in range(2))
    trained = {name: p for name, p in first.named_parameters() if p.requires_grad}
    assert len(trained) == 3 * 2 * 2
    assert all("lora_" in name and p.dtype is torch.float32 for name, p in trained.items())
    assert all(torch.equal(p, dict(second.named_parameters())[name]) for name, p in trained.items())
    config = first.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 32, 0.05)
    assert (config.base_model_name_or_path, config.revision) == (str(folder), "main")


@pytest.mark.parametrize("modules", [("q_proj", "lm_head"), ("embed_tokens",), ("nonsense",), ()])
def test_an_adapter_on_what_cannot_have_one_is_refused(folder, modules):
    chosen = recipe(folder, lora_modules=modules)
    with pytest.raises(TrainError, match=r"lora_modules name .*q_proj"):
        with_adapter(load_base(chosen, "cpu")[0], chosen)


# ---- bitsandbytes on CPUs with AVX512-BF16 ------------------------------------------------------------------------


def gradient_norm(model, inputs):
    model.train()
    model.zero_grad()
    answer_loss(model, inputs)[0].backward()
    return float(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm())


def around_an_evaluation(folder, prepare=lambda model: None):
    chosen = recipe(folder, lora_dropout=0.0)
    model, tokenizer = load_base(chosen, "cpu")  # noqa: F811
    model = with_adapter(model, chosen)
    prepare(model)
    inputs = batch(tokenizer, chosen)
    before = gradient_norm(model, inputs)
    model.eval()
    with torch.no_grad():
        answer_loss(model, inputs)
    return before, gradient_norm(model, inputs), model, tokenizer


def test_an_evaluation_leaves_the_gradients_alone(folder):
    before, after, model, _ = around_an_evaluation(folder)
    assert after == pytest.approx(before, rel=1e-6)
    assert not any(getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers(model))


def test_bitsandbytes_still_needs_the_guard(folder):
    """Fails when bitsandbytes has mended it: then `keep_differentiable` can go."""
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16, so bitsandbytes does not take the path in question")

    def unguarded(model):
        for layer in layers(model):
            layer.support_avx512bf16_for_cpu = True

    before, after, _, _ = around_an_evaluation(folder, unguarded)
    assert after < 0.9 * before
    chosen = recipe(folder)
    model, tokenizer = load_base(chosen, "cpu")  # noqa: F811
    model = with_adapter(model, chosen)
    unguarded(model)
    assert [c.name for c in selfcheck(model, tokenizer, chosen) if not c.passed] == ["gradient after an evaluation"]


# ---- what can be wrong with a base ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "has no base"),
        ("./nowhere", r"The recipe's base is '\./nowhere', which is neither a folder"),
        ("someone/something", "The Hub cannot be reached to fetch someone/something.* set base to a local folder"),
    ],
)
def test_a_base_that_is_not_there(name, said):
    with pytest.raises(TrainError, match=said) as error:
        load_base(Recipe(base=name), "cpu")
    assert "MODEL_" not in str(error.value)


def test_a_gated_base(monkeypatch):
    from httpx2 import Request, Response
    from huggingface_hub.errors import GatedRepoError

    def gated(*args, **kwargs):
        raise GatedRepoError("403", response=Response(403, request=Request("GET", "https://huggingface.co")))

    monkeypatch.setattr("huggingface_hub.snapshot_download", gated)
    with pytest.raises(TrainError, match=r"google/gemma-3-1b-it is gated: accept its licence at .* and set HF_TOKEN"):
        load_base(Recipe(), "cpu")


def without(file):
    return lambda folder: (folder / file).unlink()


def rewritten(file, **changes):
    def apply(folder):
        values = json.loads((folder / file).read_text()) | changes
        (folder / file).write_text(json.dumps(values))

    return apply


def truncated(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without("tokenizer.json"), "no tokenizer"),
        (without("chat_template.jinja"), "no chat template"),
        (without("config.json"), "not a causal language model"),
        (without("model.safetensors"), "safetensors"),
        (truncated, "damaged or only half downloaded"),
        (rewritten("config.json", num_hidden_layers=4, layer_types=["full_attention"] * 4), "incomplete"),
        (rewritten("config.json", model_type="vit"), "not a causal language model"),
    ],
    ids=["tokenizer", "template", "config", "weights", "truncated", "incomplete", "kind"],
)
@pytest.mark.parametrize("bits", [4, 32])
def test_a_broken_base(broken, damage, said, bits):
    damage(broken)
    with pytest.raises(TrainError, match=said):
        load_base(recipe(broken, bits=bits), "cpu")


@pytest.mark.parametrize(("bits", "advice"), [(4, "smaller base"), (16, "set bits to 4")])
@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")], ids=["cpu", "gpu"])
def test_too_little_memory(folder, monkeypatch, bits, advice, error):
    from transformers import AutoModelForCausalLM

    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(TrainError, match=f"not enough memory on cpu .*{advice}"):
        load_base(recipe(folder, bits=bits), "cpu")
