"""A run directory as the stages leave it, in a moment: their records, and small files of random bytes for the weights."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.train.test_card import INFO, REPORT, metrics
from train import evaluate, gguf, merge
from train.card import card
from train.recipe import Recipe
from train.run import MADE_FROM, Run, start

GEMMA = Recipe(name="tiny gemma", base="google/gemma", base_revision="main", benchmarks=())
"""A recipe on a base that the local Hub has."""
WEIGHTS = 3000
"""Bytes of each file of weights."""


def finished(
    folder: Path,
    recipe: Recipe = GEMMA,
    seed: int = 1,
    licence: str = "gemma",
    shards: int = 1,
    kinds: Sequence[str] = tuple(gguf.KINDS),
) -> Run:
    """A run of `shards` files of weights and these kinds of GGUF files; equal for equal arguments."""
    draw = random.Random(seed)
    run = start(replace(recipe, seed=seed), folder)
    names = (
        [f"model-{n + 1:05}-of-{shards:05}.safetensors" for n in range(shards)] if shards > 1 else ["model.safetensors"]
    )
    _write(run.data, {f"{split}.parquet": split.encode() for split in ("train", "validation", "test")})
    _write(run.data, {"report.json": json.dumps(REPORT).encode()})
    _write(run.adapter, {"adapter_model.safetensors": draw.randbytes(WEIGHTS), "adapter_config.json": b"{}"})
    _write(run.adapter, {MADE_FROM: b"data"})
    _write(run.merged, {name: draw.randbytes(WEIGHTS) for name in names})
    beside = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    _write(run.merged, {name: f'{{"of": "{name}"}}'.encode() for name in beside})
    _write(run.merged, {MADE_FROM: merge.made_from(run).encode()})
    _write(folder, {f"model-{kind}.gguf": draw.randbytes(WEIGHTS) for kind in kinds})
    _write(folder, {"loss.png": b"\x89PNG" + draw.randbytes(50), "training_info.json": json.dumps(INFO).encode()})
    found = metrics()
    run.record(training=found["training"], merge=found["merge"] | {"made_from": merge.made_from(run)})
    run.record(evaluation=found["evaluation"] | {"made_from": evaluate.made_from(run)})
    if kinds:
        score = {"bytes": WEIGHTS, "loss": 2.0, "interval": [1.9, 2.1], "perplexity": 7.4}
        run.record(gguf={"made_from": gguf.made_from(run), "kinds": dict.fromkeys(kinds, score)})
    _write(folder, {"README.md": card(run.recipe, run.recorded(), INFO, REPORT, licence).encode()})
    return run


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
