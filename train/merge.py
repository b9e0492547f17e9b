"""Adapter and base into one model in the published shape: run/merged.

The adapter learned on the quantised base. Merging it into the original weights and into the dequantised ones give two
models; sources disagree on which is better, so both are scored on validation answers, the better one is kept, and both
figures are published.
"""

from __future__ import annotations

import gc
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from train.base import keep_differentiable, load_base
from train.errors import TrainError
from train.evaluate import QUESTIONS, Examples, losses
from train.recipe import Recipe
from train.run import MADE_FROM, Run, done, fingerprint, whole
from train.statistics import interval

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOGIT_BOUND = 0.05
"""Largest root-mean-square difference of the published bfloat16 model's logits from those of base and adapter, unmerged, in
units of their own standard deviation; bfloat16 keeps 8 bits."""


def merge(run: Run) -> None:
    """Make run/merged and record both ways of merging. Raises `TrainError` when the result does not prove itself."""
    run.need(run.adapter, "finetune")
    run.need(run.data, "prepare")
    mark = made_from(run)
    # Both, because a kill may come between the two.
    if done(run.merged, mark) and run.recorded("merge").get("made_from") == mark:
        print(f"merge: {run.merged} is up to date.")
        return
    ways = {"16-bit base": 32} | ({"dequantised base": 4} if run.recipe.bits == 4 else {})
    scores = {way: _score(run, bits) for way, bits in ways.items()}
    for way, found in scores.items():
        print(f"merge: on the {way}: validation loss {found['loss']}", flush=True)
    kept = min(scores, key=lambda way: float(scores[way]["loss"]))
    with whole(run.merged) as folder:
        before = _build(run, ways[kept], folder)
        proof = _prove(folder, before)
        (folder / MADE_FROM).write_text(mark)
        run.record(merge={"made_from": mark, "kept": kept, "validation": scores, **proof})


def made_from(run: Run) -> str:
    """The fingerprint of what run/merged has to be made from."""
    return fingerprint(run.adapter, run.recipe.base, run.recipe.base_revision, run.recipe.bits)


def _adapted(run: Run, bits: Any) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """The adapter on the base in float32: 4 the dequantised one, 32 the original, whose 16 bits float32 holds exactly."""
    from peft import PeftModel

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base, tokenizer = load_base(replace(run.recipe, bits=bits), device)
    if bits == 4:
        base = base.dequantize().float()
        keep_differentiable(base)
    return PeftModel.from_pretrained(base, run.adapter), tokenizer


def _merged(adapted: PeftModel, adapter: Path) -> PreTrainedModel:
    try:
        merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:  # NaN
        raise TrainError(f"The adapter {adapter} cannot be merged ({error}); delete it and train again.") from error
    return merged


def _score(run: Run, bits: int) -> dict[str, Any]:
    """The merged model's loss on validation answers (or sequences, where those are what was trained on)."""
    adapted, tokenizer = _adapted(run, bits)
    examples = Examples(run.data / "validation.parquet", tokenizer, run.recipe, most=run.recipe.eval_examples)
    found = interval(*losses(_merged(adapted, run.adapter), examples)[run.recipe.loss])
    if found["loss"] is None or not math.isfinite(found["loss"]):
        raise TrainError(
            f"The merged model's validation loss is {found['loss']}; look at {run.folder / 'loss.png'} and train again."
        )
    del adapted
    gc.collect()
    return found


def _build(run: Run, bits: int, folder: Path) -> dict[str, Any]:
    """Write the published shape: bfloat16 safetensors with the head tied, tokenizer, template, generation_config.

    Returns what the written model has to show: the logits of the base and of base and adapter, unmerged, [tokens,
    vocabulary], the prompt's ids, the chat template, and whether the head is tied.
    """
    adapted, tokenizer = _adapted(run, bits)
    ids = torch.tensor([_prompt(tokenizer, run.recipe)], device=adapted.device)
    with adapted.disable_adapter():
        base = _logits(adapted, ids)
    before = {
        "ids": ids,
        "base": base,
        "adapter": _logits(adapted, ids),
        "template": tokenizer.chat_template,
        "tied": bool(adapted.config.tie_word_embeddings),
    }
    model = _merged(adapted, run.adapter)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return before


def _prompt(tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> list[int]:
    from train.packing import texts

    asked, _ = texts(QUESTIONS[0], "", tokenizer, recipe)
    return list(tokenizer(asked, add_special_tokens=False)["input_ids"])


def _prove(folder: Path, before: dict[str, Any]) -> dict[str, Any]:
    """Loads what was written as anybody would, and holds it against what it was made from. Raises `TrainError`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for file in ("tokenizer.json", "config.json", "generation_config.json"):
        if not (folder / file).is_file():
            raise TrainError(
                f"The merged model has no {file}; the base must have one, so choose another or fetch it again."
            )
    if AutoTokenizer.from_pretrained(folder).chat_template != before["template"]:
        raise TrainError("The merged model has lost the base's chat template; merge again.")
    ids = before["ids"]
    published = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(ids.device)
    head, embedding = published.get_output_embeddings().weight, published.get_input_embeddings().weight
    if (head.data_ptr() == embedding.data_ptr()) != before["tied"]:
        raise TrainError(f"The head of the merged model is {'not ' if before['tied'] else ''}tied, unlike the base's.")
    logits, scale = _logits(published, ids), before["adapter"].std()
    rounding = float((logits - before["adapter"]).square().mean().sqrt() / scale)
    change = float((logits - before["base"]).square().mean().sqrt() / scale)
    if not rounding <= LOGIT_BOUND:
        raise TrainError(
            f"The merged model's logits differ from the adapter's by {rounding:.3f} of their spread, more than "
            f"{LOGIT_BOUND}; merge again."
        )
    if not change > rounding:
        raise TrainError("Merging changed nothing: the model writes as the base does; train the adapter again.")
    return {"logit_rounding": round(rounding, 5), "logit_change": round(change, 5), "logit_bound": LOGIT_BOUND}


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    model.eval()
    with torch.inference_mode():
        logits: torch.Tensor = model(ids, use_cache=False).logits[0]
    return logits.float()
