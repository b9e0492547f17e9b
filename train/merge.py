"""Adapter and base into one model in the published shape: run/merged.

The adapter learned on the quantised base. Merging it into the original weights and into the dequantised ones give two
models; sources disagree on which is better, so both are scored on validation answers, the better one is kept, and both
figures are published.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from train.base import keep_differentiable, load_base
from train.errors import TrainError
from train.evaluate import Examples, losses
from train.recipe import Recipe
from train.run import MADE_FROM, Run, done, fingerprint, whole
from train.statistics import interval

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOGIT_BOUND = 0.05
"""Largest root-mean-square difference of the published bfloat16 logits from the merged float ones, in units of their own
standard deviation; bfloat16 keeps 8 bits."""


def merge(run: Run) -> None:
    """Make run/merged and record both ways of merging. Raises `TrainError` when the result does not prove itself."""
    adapter = run.need(run.adapter, "finetune")
    mark = fingerprint(adapter, run.recipe.base, run.recipe.base_revision, run.recipe.bits)
    if done(run.merged, mark):
        print(f"merge: {run.merged} is up to date.")
        return
    ways = {"16-bit base": 16} | ({"dequantised base": 4} if run.recipe.bits == 4 else {})
    scores: dict[str, Any] = {}
    best: tuple[float, str] | None = None
    for way, bits in ways.items():
        model, tokenizer = _merged(run.recipe, adapter, bits)
        examples = Examples(run.data / "validation.parquet", tokenizer, run.recipe, most=run.recipe.eval_examples)
        found = interval(*losses(model, examples))
        scores[way] = found
        print(f"merge: on the {way}: validation loss {found['loss']}", flush=True)
        if best is None or found["loss"] < best[0]:
            best = (found["loss"], way)
            _save(run, model, tokenizer, mark)
    assert best is not None
    run.record(merge={"kept": best[1], "validation": scores, **_prove(run, adapter, ways[best[1]])})


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _plain_base(recipe: Recipe, bits: Any) -> tuple[PreTrainedModel, Any]:
    model, tokenizer = load_base(replace(recipe, bits=bits), _device())
    if bits == 4:
        model = model.dequantize()
        keep_differentiable(model)
    return model, tokenizer


def _merged(recipe: Recipe, adapter: Path, bits: int) -> tuple[PreTrainedModel, Any]:
    from peft import PeftModel

    base, tokenizer = _plain_base(recipe, bits)
    try:
        merged = PeftModel.from_pretrained(base, adapter).merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise TrainError(f"The adapter {adapter} cannot be merged ({error}); train it again.") from error
    return merged, tokenizer


def _save(run: Run, model: PreTrainedModel, tokenizer: Any, mark: str) -> None:
    """The published shape: bfloat16 safetensors with the head tied, tokenizer, template, generation_config."""
    with whole(run.merged) as folder:
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / MADE_FROM).write_text(mark)


def _prove(run: Run, adapter: Path, bits: int) -> dict[str, Any]:
    """Loads what was written as anybody would, and compares it with base and merged model. Raises `TrainError`."""
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run.merged)
    if run.recipe.prompt == "chat" and not tokenizer.chat_template:
        raise TrainError(f"{run.merged} has lost the chat template; merge again.")
    for file in run.merged.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            if "lm_head.weight" in list(tensors.keys()):
                raise TrainError(f"{file} holds a head of its own, which Gemma ties to the embedding; merge again.")
    ids = tokenizer("What are the symptoms of diabetes?", return_tensors="pt")["input_ids"].to(_device())
    published = AutoModelForCausalLM.from_pretrained(run.merged, dtype=torch.float32).to(_device())
    logits = {"published": _logits(published, ids)}
    logits["merged"] = _logits(_merged(run.recipe, adapter, bits)[0], ids)
    logits["base"] = _logits(_plain_base(run.recipe, bits)[0], ids)
    scale = logits["merged"].std()
    rounding = float((logits["published"] - logits["merged"]).square().mean().sqrt() / scale)
    change = float((logits["published"] - logits["base"]).square().mean().sqrt() / scale)
    if change <= rounding:
        raise TrainError(f"Merging changed nothing: {run.merged} writes as the base does; train the adapter again.")
    if rounding > LOGIT_BOUND:
        raise TrainError(
            f"{run.merged} differs from the merged model by {rounding:.3f}, more than {LOGIT_BOUND}; merge again."
        )
    return {"logit_rounding": round(rounding, 5), "logit_change": round(change, 5), "logit_bound": LOGIT_BOUND}


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(ids, use_cache=False).logits
    return logits.float()
