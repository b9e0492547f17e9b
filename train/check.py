"""Seconds before hours: whether a run can work, seen before anything is downloaded or a GPU is paid for.

    python -m train check --recipe NAME

Asks the Hub for access, holds estimates of disk and memory against what is there, and then does the whole thing, a packed
step, a save, a merge and a reload, with a tiny model made on the spot.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from train.base import compute_dtype
from train.errors import TrainError
from train.finetune import check_trackers, finetune
from train.loss import CHUNK
from train.recipe import Recipe
from train.run import Run, start
from train.selfcheck import Check
from train.sources import LOCAL

GIB = 2**30


def check(run: Run) -> bool:
    """Prints the table; whether nothing was found that would stop the run."""
    checks = list(_checks(run))
    width = max(len(check.name) for check in checks)
    for found in checks:
        print(f"check: {found.name:{width}}  {'ok    ' if found.passed else 'FAILED'}  {found.detail}", flush=True)
    return all(found.passed for found in checks)


def _checks(run: Run) -> Iterator[Check]:
    recipe = run.recipe
    yield _tried("recipe", lambda: _recipe(recipe))
    base = _tried("base", lambda: _reachable(recipe.base, "model"))
    yield base
    for name in recipe.data:
        yield _tried("data", lambda name=name: _data(name))  # type: ignore[misc]
    yield Check("device", True, _device(recipe))
    if base.passed:
        yield from _sizes(run)
    yield _tried("rehearsal", lambda: rehearse(recipe))


def _tried(name: str, action: Callable[[], str]) -> Check:
    try:
        return Check(name, True, action())
    except TrainError as error:
        return Check(name, False, str(error))


# ---- recipe, access, device ---------------------------------------------------------------------------------------


def _recipe(recipe: Recipe) -> str:
    from transformers.training_args import OptimizerNames

    known = [str(name.value) for name in OptimizerNames]
    if recipe.optimizer not in known:
        raise TrainError(f"The recipe's optimizer is {recipe.optimizer!r}, but must be one of {', '.join(known)}.")
    check_trackers(recipe)
    return f"{recipe.name}: every option is valid"


def _data(name: str) -> str:
    if Path(name).suffix.lower() in LOCAL:
        if not Path(name).is_file():
            raise TrainError(f"There is no file {name}; correct the recipe's data.")
        return f"{name} is here"
    return _reachable(name.partition("@")[0].partition(":")[0], "dataset")


def _reachable(name: str, kind: str) -> str:
    """That a folder is here or that the Hub lets this account read a repository; the sentence why not is raised."""
    from httpx2 import TransportError
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in its __all__

    from train.hub import sentences

    if Path(name).is_dir():
        return f"{name} is here"
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise TrainError(f"{name!r} is neither a folder here nor a Hub repository of the form owner/name; correct it.")
    with sentences(name, kind):
        validate_repo_id(name)
        try:
            HfApi().auth_check(name, repo_type=kind)
        except (TransportError, OfflineModeIsEnabled):
            if not (Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)).is_dir():
                raise
            return f"the Hub cannot be reached; {name} is in the cache"
    return f"{name} may be read"


def _device(recipe: Recipe) -> str:
    if not torch.cuda.is_available():
        four = ", in 4 bits too" if recipe.bits == 4 else ""
        return f"no GPU: it runs on the CPU in float32, which works{four}, but is slow for a large base"
    device = torch.device("cuda", torch.cuda.current_device())
    several = torch.cuda.device_count()
    more = f"; {several} of them: start finetune with accelerate launch" if several > 1 else ""
    name = str(compute_dtype(device)).removeprefix("torch.")
    return f"{torch.cuda.get_device_name()}, {name}{more}"


# ---- disk and memory ----------------------------------------------------------------------------------------------


class Sizes(NamedTuple):
    """Numbers of parameters: of the linear layers, of the rest of the base, and of the adapter; and the base's shape."""

    linear: int
    other: int
    adapter: int
    hidden: int
    intermediate: int
    layers: int
    vocabulary: int


def sizes(config: Any, recipe: Recipe) -> Sizes:
    """Counted on the model itself, made without weights. Raises `TrainError` where it is no causal language model."""
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise TrainError(f"The base {recipe.base} is not a causal language model; choose another.") from error
    linears = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and not n.endswith("lm_head")}
    linear = sum(module.weight.numel() for module in linears.values())
    adapted = [m for n, m in linears.items() if n.rpartition(".")[2] in recipe.lora_modules]
    return Sizes(
        linear=linear,
        other=sum(parameter.numel() for parameter in model.parameters()) - linear,
        adapter=sum(recipe.lora_r * (module.in_features + module.out_features) for module in adapted),
        hidden=config.hidden_size,
        intermediate=getattr(config, "intermediate_size", 4 * config.hidden_size),
        layers=config.num_hidden_layers,
        vocabulary=config.vocab_size,
    )


def memory(of: Sizes, recipe: Recipe, dtype: torch.dtype) -> dict[str, int]:
    """Bytes that training holds at once, by what holds them; an estimate, for a decision between enough and far too little.

    With b bytes a number (`dtype`; all but the linear layers is float32 where that is float16):
    base        linear layers in NF4 with double quantisation 0.516 bytes a weight (4 + 8/64 + 32/(64·256) bits; Dettmers
                et al. 2023, QLoRA, section 3), in 16 bits b, in 32 bits 4; all else b
    adapter     16 bytes a parameter: itself, its gradient and two moments of Adam in float32
    activations batch_size · max_length positions, each with 10 hidden and 4 intermediate vectors a layer (after Korthikanti
                et al. 2022, with attention that keeps no matrix); with gradient checkpointing one hidden vector a layer
                and one layer in full
    logits      three times CHUNK · vocabulary float32 (`train.loss`)
    libraries   1 GiB: torch, CUDA's context
    """
    b, rest = dtype.itemsize, 4 if dtype is torch.float16 else dtype.itemsize
    layer = b * (10 * of.hidden + 4 * of.intermediate)
    kept = of.layers * rest * of.hidden + layer if recipe.gradient_checkpointing else of.layers * layer
    stored = {4: 0.516, 16: b, 32: 4}[recipe.bits]
    return {
        "base": int(of.linear * stored + of.other * (4 if recipe.bits == 32 else rest)),
        "adapter": 16 * of.adapter,
        "activations": recipe.batch_size * recipe.max_length * kept,
        "logits": 3 * CHUNK * of.vocabulary * 4,
        "libraries": GIB,
    }


def disk(of: Sizes, recipe: Recipe, download: bool) -> int:
    """Bytes on the disk at most: the base once if it is fetched (2 a parameter), the merged model twice while a new one
    replaces it, three checkpoints while the oldest of them is still there (16 bytes a parameter of the adapter), and
    0.5 GiB for data and reports."""
    model = 2 * (of.linear + of.other)
    return (download + 2) * model + 3 * 16 * of.adapter + GIB // 2


def _sizes(run: Run) -> Iterator[Check]:
    from transformers import AutoConfig

    recipe = run.recipe
    try:
        config = AutoConfig.from_pretrained(
            recipe.base, revision=recipe.base_revision or "main", trust_remote_code=False
        )
        of = sizes(config, recipe)
    except (TrainError, OSError, ValueError, AttributeError) as error:
        yield Check("model", False, f"The config.json of {recipe.base} cannot be used: {str(error).splitlines()[0]}")
        return
    yield Check("model", of.adapter > 0, f"{of.linear + of.other:,} parameters, {of.adapter:,} in the adapter")
    needed = disk(of, recipe, not Path(recipe.base).is_dir())
    free = shutil.disk_usage(run.folder).free
    yield Check("disk", free > needed, _held_against(needed, free, f"make room in {run.folder.resolve()}"))
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        available = torch.cuda.mem_get_info()[0]
    else:
        import psutil

        available = psutil.virtual_memory().available
    parts, least = (
        memory(of, chosen, compute_dtype(device)) for chosen in (recipe, replace(recipe, gradient_checkpointing=True))
    )
    needed = sum(parts.values())
    advice = f"lower batch_size or max_length, or choose a smaller base{'' if recipe.bits == 4 else ', or bits: 4'}"
    detail = _held_against(min(needed, sum(least.values())) if needed > available else needed, available, advice)
    if sum(least.values()) < available <= needed:
        detail += ", with gradient checkpointing, which it falls back to by itself and which is slower"
    yield Check("memory", sum(least.values()) < available, detail)


def _held_against(needed: int, there: int, advice: str) -> str:
    said = f"about {needed / GIB:.1f} GiB needed, {there / GIB:.1f} GiB free"
    return said if needed < there else f"{said}; {advice}"


# ---- rehearsal ----------------------------------------------------------------------------------------------------


def rehearse(recipe: Recipe) -> str:
    """The recipe's own stages on a Gemma 3 of two layers and a dozen rows: packed steps, save, merge, reload.

    The tokenizer is the embedded model's, for the base's is not here yet. Raises `TrainError` for what fails.
    """
    from train.merge import merge

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _tiny_base(folder / "base")
        small = replace(
            recipe,
            base=str(folder / "base"),
            base_revision="",
            lora_modules=("q_proj", "v_proj"),
            lora_r=4,
            batch_size=1,
            accumulation=1,
            max_length=256,
            learning_rate=0.01,
            warmup_steps=0,
            epochs=1,
            eval_steps=2,
            eval_examples=2,
            report_to=(),
        )
        run = start(small, folder / "run")
        _rows(run.data)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            finetune(run)
            merge(run)
        steps = run.recorded("training")["steps"]
    return f"{steps} packed steps, save, merge and reload on a tiny model"


def _tiny_base(folder: Path) -> None:
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

    from space.settings import DEMO_MODEL

    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODEL)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=64,
        max_position_embeddings=512,
        initializer_range=0.1,
        bos_token_id=2,
        eos_token_id=[1, 106],
        pad_token_id=0,
    )
    torch.manual_seed(0)
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _rows(data: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    data.mkdir(parents=True)
    with (Path(__file__).parent / "sample.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(16), strict=False)]
    table = [
        {"question": row["input"] or row["instruction"], "answer": row["output"], "source": "sample"} for row in rows
    ]
    for name, part in (("train", table[:12]), ("validation", table[12:14]), ("test", table[14:])):
        parquet.write_table(pyarrow.Table.from_pylist(part), data / f"{name}.parquet")
