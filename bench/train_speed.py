"""Fine-tuning speed beside the original project's way and TRL's SFTTrainer: one epoch over the same rows, one after the other.

    pip install trl==1.16.0
    python -m bench.train_speed [--shape small|gemma-3-1b] [--rows 64]

Every contender is a process of its own and trains the same LoRA on the same NF4 base with random weights, over the same
training split of ../shared/data, at 16 rows a step. Evaluations are as in the published run: eight an epoch (one a step
where there are fewer steps); the original's read the whole validation split, 15 % of the rows, ours and TRL's a fifteenth
of it. What counts are real tokens, those of the rows without padding, over the wall-clock of the whole epoch. `small` keeps Gemma-3-1B's
proportions (head to layers 0.43, feed-forward six times the width) at a fortieth of its size. Prints a table and writes it to
bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.results import write

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
SOURCES = ("medquad_dev.jsonl", "wikidoc_patient.jsonl", "genmedgpt5k.jsonl")
CONTENDERS = {
    "ours": "this pipeline: packing, loss on the answers, head on learned positions only",
    "ours, 16 bits": "the same on a base that is not quantised",
    "seed": "the recipe `seed` in this pipeline: padding to the longest of a batch, loss on the whole sequence",
    "original": "the original's way in plain transformers: padding to 512, head on every position, gradient checkpointing",
    "trl": "TRL's SFTTrainer with packing, loss on the answers",
}
VOCABULARY, LENGTH, STEP_ROWS, EVALUATIONS = 20_480, 512, 16, 8


# ---- what all share -------------------------------------------------------------------------------------------------


def make_base(folder: Path, shape: str) -> None:
    """A Gemma 3 of this shape with random weights, bfloat16, and a tokenizer for its vocabulary."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

    if shape == "small":
        from train.demo import make_tokenizer

        texts = (json.loads(line)["output"] for name in SOURCES for line in (SHARED / name).open(encoding="utf-8"))
        tokenizer = make_tokenizer(texts, VOCABULARY)
        config = Gemma3TextConfig(
            vocab_size=len(tokenizer),
            hidden_size=384,
            intermediate_size=2304,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=96,
            query_pre_attn_scalar=96,
            sliding_window=512,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=[1, 106],
        )
    else:
        tokenizer = AutoTokenizer.from_pretrained(SHARED / "gemma3_tokenizer")
        config = AutoConfig.from_pretrained(SHARED / "gemma3_tokenizer")
    torch.manual_seed(0)
    tokenizer.save_pretrained(folder)
    Gemma3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def recipe(name: str, base: Path, rows: int) -> Any:
    from train.recipe import read

    validation = max(1, round(rows * 15 / 70))
    own = {} if name in ("seed", "original") else {"eval_examples": max(1, validation // 15)}
    return read(
        "seed" if name in ("seed", "original") else "",
        {
            "base": str(base),
            "base_revision": "",
            "data": [str(SHARED / source) for source in SOURCES],
            "leave_out": [],
            "benchmarks": [],
            "max_length": LENGTH,
            "batch_size": 4,
            "accumulation": STEP_ROWS // 4,
            "warmup_steps": 0.1,
            "bits": 16 if name.endswith("16 bits") else 4,
            "cleaning": "full",
            "draw": "random",
            "examples": round(rows / 0.7),
            "near_duplicates": 0,
            **own,
        },
    )


def rows_of(run: Path, base: Path, split: str, most: int = 0) -> list[dict[str, Any]]:
    """Token ids of each row, and which of them are the answer's (`completion_mask`), cut to 512."""
    import pyarrow.parquet as parquet
    from transformers import AutoTokenizer

    from train.packing import encode
    from train.recipe import Recipe

    tokenizer = AutoTokenizer.from_pretrained(base)
    table = parquet.read_table(run / "data" / f"{split}.parquet").to_pylist()
    encoded = [encode(row["question"], row["answer"], tokenizer, Recipe(max_length=LENGTH)) for row in table]
    found = [
        {"input_ids": one.ids.tolist(), "completion_mask": [int(i >= one.learned_from) for i in range(len(one))]}
        for one in encoded
        if one is not None
    ]
    return found[:most] if most else found


# ---- the contenders ---------------------------------------------------------------------------------------------------


def ours(name: str, base: Path, run: Path, rows: int) -> float:
    from train.finetune import finetune
    from train.run import Run

    chosen = recipe(name, base, rows)
    steps = steps_of(run, base, chosen)
    finetune(Run(replace(chosen, eval_steps=max(1, steps // EVALUATIONS)), run))
    return float(json.loads((run / "metrics.json").read_text())["training"]["seconds"])


def steps_of(run: Path, base: Path, chosen: Any) -> int:
    """Optimizer steps of an epoch."""
    from train.packing import arrange

    lengths = [len(row["input_ids"]) for row in rows_of(run, base, "train")]
    return -(-len(arrange(lengths, chosen)) // STEP_ROWS)


def _peer_model(base: Path) -> tuple[Any, Any, Any]:
    import torch
    from peft import LoraConfig

    from train.base import load_base
    from train.recipe import Recipe

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = load_base(Recipe(base=str(base), base_revision=""), device)
    lora = LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.05, target_modules=list(Recipe().lora_modules), task_type="CAUSAL_LM"
    )
    return model, tokenizer, lora


def _arguments(folder: Path, steps: int) -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "gradient_accumulation_steps": STEP_ROWS // 4,
        "num_train_epochs": 1,
        "learning_rate": 2e-4,
        "max_grad_norm": 0.3,
        "optim": "paged_adamw_8bit",
        "eval_strategy": "steps",
        "eval_steps": max(1, steps // EVALUATIONS),
        "save_strategy": "steps",
        "save_steps": max(1, steps // EVALUATIONS),
        "save_total_limit": 2,
        "disable_tqdm": True,
        "report_to": "none",
        "use_cpu": not cuda,
        "bf16": cuda,
    }


def original(base: Path, run: Path) -> float:
    import torch
    from peft import get_peft_model, prepare_model_for_kbit_training
    from transformers import Trainer, TrainingArguments

    model, _, lora = _peer_model(base)
    model = get_peft_model(prepare_model_for_kbit_training(model, use_gradient_checkpointing=True), lora)

    def padded(split: str) -> list[dict[str, list[int]]]:
        found = []
        for row in rows_of(run, base, split):
            ids, empty = row["input_ids"], LENGTH - len(row["input_ids"])
            found.append(
                {
                    "input_ids": ids + [0] * empty,
                    "attention_mask": [1] * len(ids) + [0] * empty,
                    "labels": ids + [-100] * empty,
                }
            )
        return found

    train = padded("train")
    arguments = _arguments(run / "original", -(-len(train) // STEP_ROWS))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**arguments, gradient_checkpointing=True),
        train_dataset=train,
        eval_dataset=padded("validation"),
        data_collator=lambda rows: {name: torch.tensor([row[name] for row in rows]) for name in rows[0]},
    )
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start


def trl(base: Path, run: Path, rows: int) -> float:
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer, lora = _peer_model(base)
    chosen = recipe("ours", base, rows)
    train, held = rows_of(run, base, "train"), rows_of(run, base, "validation", chosen.eval_examples)
    steps = steps_of(run, base, chosen)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **_arguments(run / "trl", steps),
            max_length=LENGTH,
            packing=True,
            eval_packing=False,
            gradient_checkpointing=False,
            completion_only_loss=True,
            dataset_kwargs={"skip_prepare_dataset": False},
        ),
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(held),
        processing_class=tokenizer,
        peft_config=lora,
    )
    if not torch.cuda.is_available():  # its adapters are bfloat16, which most CPUs emulate
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start


def one(name: str, base: Path, run: Path, rows: int) -> None:
    """Trains as one contender; the last line printed is its seconds and, on a GPU, its peak of memory in GiB."""
    import torch

    if name in ("ours", "ours, 16 bits", "seed"):
        seconds = ours(name, base, run, rows)
    else:
        seconds = original(base, run) if name == "original" else trl(base, run, rows)
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    print(seconds, memory)


# ---- the table ----------------------------------------------------------------------------------------------------------


def measured(name: str, base: Path, run: Path, rows: int) -> tuple[float, float]:
    """Seconds, and the peak of GPU memory or, without one, of the process, in GiB."""
    command = [sys.executable, "-m", "bench.train_speed", "--one", name, str(base), str(run), "--rows", str(rows)]
    log = run / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    last = log.read_text().strip().splitlines()
    if status:
        raise SystemExit(f"{name} failed: {last[-1:]}")
    seconds, memory = map(float, last[-1].split())
    return seconds, memory or usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=["small", "gemma-3-1b"], default="small")
    parser.add_argument("--rows", type=int, default=64, help="rows of the training split")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], Path(options.one[1]), Path(options.one[2]), options.rows)
        return
    from transformers import AutoTokenizer

    from train.data import prepare
    from train.packing import arrange

    with tempfile.TemporaryDirectory() as name:
        base, data = Path(name) / "base", Path(name) / "data"
        make_base(base, options.shape)
        chosen = recipe("ours", base, options.rows)
        prepare(chosen, data, AutoTokenizer.from_pretrained(base))
        lengths = [len(row["input_ids"]) for row in rows_of(data, base, "train")]
        tokens, packed = sum(lengths), len(arrange(lengths, chosen))
        found = {}
        for contender in options.only:
            run = Path(name) / contender.replace(", ", "-").replace(" ", "-")
            shutil.copytree(data, run)
            found[contender] = measured(contender, base, run, options.rows)
            print(f"{contender}: {found[contender][0]:.1f} s, {found[contender][1]:.2f} GiB", flush=True)
    against = found.get("original", next(iter(found.values())))[0]
    head = "| contender | epoch, s | real tokens/s | ratio to the original | peak GiB |\n|---|---|---|---|---|\n"
    lines = "\n".join(
        f"| {CONTENDERS[name]} | {seconds:.1f} | {tokens / seconds:.0f} | {against / seconds:.2f} | {memory:.2f} |"
        for name, (seconds, memory) in found.items()
    )
    text = (
        f"Shape `{options.shape}`; {len(lengths)} rows with {tokens:,} real tokens, {packed} rows of {LENGTH} when packed. "
        f"Targets: 6 times the original, and TRL's speed.\n\n{head}{lines}"
    )
    write("train_speed", text, ["torch", "transformers", "peft", "bitsandbytes", "trl"])
    print(text)


if __name__ == "__main__":
    main()
