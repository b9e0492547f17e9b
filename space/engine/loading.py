"""A model's files into memory: configuration, tokenizer and weights, each refused with a sentence where they will not do.

transformers is lenient: it makes a tokenizer without a vocabulary, fills missing weights with random numbers, loads an
encoder as if it could write, and asks on the terminal whether to run a stranger's code. A page in front of strangers is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from space.errors import ModelError
from space.prompt import conversation
from space.settings import Settings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def load(folder: Path, settings: Settings) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The tokenizer and the model of `folder`, ready to write on this machine. Raises `ModelError`."""
    if settings.zero_gpu:
        import spaces  # noqa: F401  before torch: it stands in for the device until a call gets one
    from transformers.utils import logging

    logging.disable_progress_bar()  # its monitor is a thread that stays
    name = "the embedded model" if settings.embedded else settings.model_id
    config = _config(folder, name)
    tokenizer = _tokenizer(folder, name)
    return tokenizer, _model(folder, name, config, settings)


def _config(folder: Path, name: str) -> PreTrainedConfig:
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        # Said outright: left open, transformers would ask on the terminal whether to run the code.
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{name} has no config.json that transformers can read (code that comes with a model is never run here); "
            "check that MODEL_ID is a transformers model."
        ) from error
    # An encoder or a classifier of the same family would load too, and write nonsense: the files say what they hold.
    writers = ("CausalLM", "LMHead", "ConditionalGeneration")
    if type(config) not in AutoModelForCausalLM._model_mapping or not any(
        writer in architecture for architecture in config.architectures or writers for writer in writers
    ):
        raise ModelError(
            f"{name} is a {config.model_type} model, not a causal language model; choose one that generates text."
        )
    return config


def _tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

    try:
        if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model")):
            raise FileNotFoundError(folder / "tokenizer.json")  # transformers would make one without a vocabulary
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"{name} has no tokenizer that can be read; it needs a tokenizer.json.") from error
    if not tokenizer.chat_template:
        raise ModelError(
            f"{name} has no chat template, so it is not made for conversation; choose an instruction-tuned model."
        )
    try:
        tokenizer.apply_chat_template(conversation([], "?"), add_generation_prompt=True)
    except TemplateError as error:
        raise ModelError(
            f"The chat template of {name} refuses a system message and a question ({first_line(error)}); "
            "choose a model whose template takes both."
        ) from error
    return tokenizer


def _model(folder: Path, name: str, config: PreTrainedConfig, settings: Settings) -> PreTrainedModel:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    device = "cuda" if settings.zero_gpu or torch.cuda.is_available() else "cpu"
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=_dtype(device, settings),
            device_map={"": device},
            quantization_config=nf4(_dtype(device, settings)) if settings.load_in_4bit else None,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        model.eval()
        if settings.load_in_4bit and not settings.zero_gpu:
            # On some CPUs bitsandbytes packs its weights anew in the first call; two first requests at once would race.
            with torch.inference_mode():
                model(torch.zeros(1, 1, dtype=torch.long, device=device))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise ModelError(f"{name} cannot be loaded ({first_line(error)}); choose another model.") from error
        raise ModelError(
            f"There is not enough memory on this machine's {device} for {name}; set LOAD_IN_4BIT=1 or choose a smaller model."
        ) from error
    except SafetensorError as error:
        # In the Hub's cache the folder holds links only; the damaged file itself lies two levels up.
        damaged = folder.parent.parent if folder.parent.name == "snapshots" else folder
        raise ModelError(
            f"The weights of {name} are damaged or only half downloaded ({first_line(error)}); "
            f"delete {damaged} and fetch the model again."
        ) from error
    except OSError as error:
        raise ModelError(
            f"{name} has no complete set of safetensors weights, the only kind loaded here; "
            f"download it again, or convert it to safetensors."
        ) from error
    except (ValueError, ImportError, AssertionError) as error:
        raise ModelError(f"{name} cannot be loaded ({first_line(error)}); choose another model.") from error
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise ModelError(
            f"The weights of {name} are incomplete ({len(missing)} are missing, {missing[0]} among them); "
            "download it again or choose another model."
        )
    return model


def nf4(compute: torch.dtype) -> Any:
    """The configuration of NF4 weights with double quantisation that compute in `compute`."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def _dtype(device: str, settings: Settings) -> torch.dtype:
    """The type to compute in. float16 overflows in Gemma, so older GPUs get float32.

    On a CPU decoding is bound by reading the weights: bfloat16 halves them. The embedded model fits the cache, and
    float32 is exact there.
    """
    import torch

    if settings.embedded:
        return torch.float32
    # `is_bf16_supported` counts emulation; the capability does not. ZeroGPU's devices all have it.
    if device == "cuda" and not settings.zero_gpu and torch.cuda.get_device_capability() < (8, 0):
        return torch.float32
    return torch.bfloat16


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, on a GPU or a CPU, means that memory has run out."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
