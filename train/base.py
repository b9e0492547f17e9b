"""The base model, ready to train: quantised or not, in the number format this device can train in, with its adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from space.engine.loading import first_line, nf4, out_of_memory
from space.engine.source import locate
from space.errors import ModelError
from space.settings import Settings
from train.errors import TrainError
from train.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_base(recipe: Recipe, device: torch.device | str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The recipe's base model on `device`, frozen, and its tokenizer. Only safetensors, and never code from the Hub.

    Everything computes in `compute_dtype(device)`, but where that is float16 only the linear layers do: Gemma's residual
    stream overflows it, so that and all else is float32, and gradients need a loss scaler. `recipe.bits` is how the linear
    layers' weights are stored: 4 is NF4 with double quantisation, 16 the compute type (float32 on a CPU), 32 float32.
    Raises `TrainError` for a base that is missing, gated, damaged, not a causal language model, or too large.
    """
    device = torch.device(device)
    compute = torch.float32 if recipe.bits == 32 else compute_dtype(device)
    folder = _folder(recipe)
    tokenizer = _tokenizer(folder, recipe)
    model = _model(folder, recipe, device, compute)
    keep_differentiable(model)
    model.requires_grad_(False)
    if compute is torch.float16 and recipe.bits == 16:
        _half_linears(model)
    return model, tokenizer


def with_adapter(model: PreTrainedModel, recipe: Recipe) -> PeftModel:
    """The model with a fresh LoRA adapter, float32 and the only thing that trains; seeds torch with `recipe.seed`.

    Raises `TrainError` where `recipe.lora_modules` names a module the model lacks, or the head.
    """
    from peft import LoraConfig, get_peft_model

    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    linear -= {"lm_head"}  # tied to the embedding: an adapter on it could not be merged into one weight
    if not recipe.lora_modules or (wrong := set(recipe.lora_modules) - linear):
        found = f"{sorted(wrong)[0]!r}" if recipe.lora_modules else "nothing"
        raise TrainError(f"The recipe's lora_modules name {found}; {recipe.base} has {', '.join(sorted(linear))}.")
    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=list(recipe.lora_modules),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config, revision=recipe.base_revision or None)
    config.base_model_name_or_path = recipe.base  # not this machine's cache folder
    return adapted


def compute_dtype(device: torch.device) -> torch.dtype:
    """The type of matrix products: bfloat16 from Ampere on, float16 on older GPUs, float32 on a CPU.

    By capability: `torch.cuda.is_bf16_supported()` counts emulation.
    """
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def keep_differentiable(model: torch.nn.Module) -> None:
    """Forbids bitsandbytes' inference path for CPUs with AVX512-BF16, on every 4-bit layer.

    There `Linear4bit` repacks its weights at the first forward in eval mode, for good, and from then on also trains through
    a kernel that lets no gradient pass: after the first evaluation gradients are wrong and nothing says so.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


# ---- loading ------------------------------------------------------------------------------------------------------


def _folder(recipe: Recipe) -> Path:
    if not recipe.base:
        raise TrainError("The recipe has no base; name a Hub repository or a local folder.")
    try:
        return locate(replace(Settings.from_env(), model_id=recipe.base, model_revision=recipe.base_revision))
    except ModelError as error:
        # The sentences are written for who starts the page; here the same things are options of the recipe.
        sentence = str(error).replace("MODEL_REVISION", "base_revision").replace("MODEL_ID is", "The recipe's base is")
        raise TrainError(sentence.replace("MODEL_ID", "base")) from error


def _tokenizer(folder: Path, recipe: Recipe) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model")):
            raise FileNotFoundError(folder / "tokenizer.json")  # transformers would make one without a vocabulary
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise TrainError(
            f"The base {recipe.base} has no tokenizer that can be read; it needs a tokenizer.json."
        ) from error
    if recipe.prompt != "plain" and not tokenizer.chat_template:
        raise TrainError(
            f"The base {recipe.base} has no chat template; choose an instruction-tuned one, or prompt: plain."
        )
    return tokenizer


def _model(folder: Path, recipe: Recipe, device: torch.device, compute: torch.dtype) -> PreTrainedModel:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=compute if compute is torch.bfloat16 else torch.float32,
            device_map={"": device},
            quantization_config=nf4(compute) if recipe.bits == 4 else None,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise TrainError(f"The base {recipe.base} cannot be loaded ({first_line(error)}).") from error
        advice = "choose a smaller base" if recipe.bits == 4 else "set bits to 4"
        raise TrainError(
            f"There is not enough memory on {device} for {recipe.base} in {recipe.bits} bits; {advice}."
        ) from error
    except SafetensorError as error:
        raise TrainError(
            f"The weights of {recipe.base} are damaged or only half downloaded ({first_line(error)}); "
            f"delete {folder} and fetch them again."
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise TrainError(
            f"The base {recipe.base} is not a causal language model with safetensors weights that transformers can "
            f"load by itself ({first_line(error)}); choose another."
        ) from error
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise TrainError(
            f"The weights of {recipe.base} are incomplete ({len(missing)} are missing, {missing[0]} among them); "
            "fetch them again or choose another base."
        )
    return model


def _half_linears(model: PreTrainedModel) -> None:
    """Linear layers in float16 that take and give float32, as 4-bit ones do by themselves; the head stays float32."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head"):
            module.half()
            module.register_forward_pre_hook(lambda _, inputs: tuple(x.half() for x in inputs))
            module.register_forward_hook(lambda _, inputs, output: output.float())
