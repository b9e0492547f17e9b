"""The adapter: rows of the training split through the frozen base, with transformers' Trainer.

    run/data → run/checkpoints (while it runs) → run/adapter, run/loss.png

Killed at any moment, the same command goes on from the newest checkpoint that was written whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from train.base import compute_dtype, load_base, with_adapter
from train.errors import TrainError
from train.loss import answer_loss
from train.packing import Encoded, arrange, collate, encode
from train.recipe import Recipe
from train.run import MADE_FROM, Run, done, fingerprint, whole
from train.selfcheck import refuse, selfcheck

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WHOLE = "whole"
"""The file that the last thing done to a checkpoint leaves in it."""


class Rows(Dataset[list[int]]):
    """Training rows [L] of a split, packed as the recipe says; `dropped` examples had no room for any of their answer."""

    def __init__(self, file: Path, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, most: int = 0) -> None:
        import pyarrow.parquet as parquet

        table = parquet.read_table(file, columns=["question", "answer"]).to_pylist()
        if 0 < most < len(table):
            chosen = np.random.default_rng(recipe.seed).choice(len(table), most, replace=False)
            table = [table[index] for index in sorted(chosen)]
        encoded = [encode(row["question"], row["answer"], tokenizer, recipe) for row in table]
        self.examples: list[Encoded] = [example for example in encoded if example is not None]
        self.dropped = len(encoded) - len(self.examples)
        if not self.examples:
            raise TrainError(
                f"No example of {file} leaves room for an answer in {recipe.max_length} tokens; raise max_length."
            )
        self.rows = arrange([len(example) for example in self.examples], recipe)
        self.length = recipe.max_length if recipe.packing else 0
        self.pad = tokenizer.pad_token_id or 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> list[int]:
        return self.rows[index]

    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """`train.packing.collate` of some rows: tensors [B, L]."""
        return collate(self.examples, rows, self.width(rows), self.pad)

    def width(self, rows: Sequence[Sequence[int]]) -> int:
        """L: the recipe's length when rows are packed, else the longest example's."""
        return self.length or max(sum(len(self.examples[index]) for index in row) for row in rows)

    @property
    def tokens(self) -> int:
        """Real tokens, without padding."""
        return sum(len(example) for example in self.examples)


def finetune(run: Run) -> None:
    """Make run/adapter. Raises `TrainError` for what the user can mend; running out of memory is tried again once."""
    data = run.need(run.data, "prepare")
    mark = fingerprint(run.recipe.as_dict(), data / "train.parquet", data / "validation.parquet")
    if done(run.adapter, mark):
        print(f"finetune: {run.adapter} is up to date.")
        return
    if torch.cuda.device_count() > 1 and not torch.distributed.is_initialized():
        import os

        if "LOCAL_RANK" not in os.environ:
            raise TrainError("There are several GPUs; start this with: accelerate launch -m train finetune …")
    try:
        _train(run, run.recipe, mark)
    except torch.OutOfMemoryError as error:
        if run.recipe.gradient_checkpointing:
            raise TrainError("The GPU has too little memory; lower batch_size or max_length in the recipe.") from error
        print("finetune: out of memory; trying again with gradient checkpointing, which is slower.", flush=True)
        torch.cuda.empty_cache()
        _train(run, replace(run.recipe, gradient_checkpointing=True), mark)


def _train(run: Run, recipe: Recipe, mark: str) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base, tokenizer = load_base(recipe, device)
    model = with_adapter(base, recipe)
    checks = selfcheck(model, tokenizer, recipe)
    for check in checks:
        print(f"finetune: {check.name}: {'ok' if check.passed else 'FAILED'} ({check.detail})", flush=True)
    refuse(checks)
    train = Rows(run.data / "train.parquet", tokenizer, recipe)
    validation = Rows(run.data / "validation.parquet", tokenizer, recipe, most=recipe.eval_examples)
    if recipe.gradient_checkpointing:
        base.enable_input_require_grads()
    work = run.folder / "checkpoints"
    trainer = _Trainer(
        model=model,
        args=_arguments(recipe, work, device),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=train.batch,
        callbacks=[_Speed(train, recipe)],
    )
    trainer.validation = validation
    start = time.monotonic()
    trainer.train(resume_from_checkpoint=_newest(work, mark))
    if trainer.is_world_process_zero():
        history = [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
        _save(run, model, mark, history)
        cost = {
            "seconds": round(time.monotonic() - start, 1),
            "steps": trainer.state.global_step,
            "tokens": train.tokens,
            "examples": len(train.examples),
            "rows": len(train),
            "dropped": train.dropped,
            "best_eval_loss": trainer.state.best_metric,
            "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        }
        run.record(training=cost)


def _arguments(recipe: Recipe, work: Path, device: torch.device) -> TrainingArguments:
    compute = compute_dtype(device)
    return TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim=recipe.optimizer,
        eval_strategy="steps",
        eval_steps=recipe.eval_steps,
        save_strategy="steps",
        save_steps=recipe.eval_steps,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=10,
        logging_nan_inf_filter=False,  # by default NaN is hidden
        bf16=compute is torch.bfloat16,
        fp16=compute is torch.float16,
        gradient_checkpointing=recipe.gradient_checkpointing,
        seed=recipe.seed,
        report_to=list(recipe.report_to) or "none",
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
    )


class _Trainer(Trainer):  # type: ignore[misc]
    """Trainer with our loss: token-weighted over the whole global batch, and over the whole evaluation."""

    validation: Rows

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.model_accepts_loss_kwargs = True  # so that it counts the learned tokens of all accumulated batches

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        total, tokens = answer_loss(model, inputs)
        if not torch.isfinite(total):
            raise TrainError(
                f"The loss is {total.item()} at step {self.state.global_step}; lower learning_rate, or look for broken rows."
            )
        count = tokens if num_items_in_batch is None else num_items_in_batch
        # DDP averages gradients over processes; the count is already that of all of them.
        return total / count * (self.accelerator.num_processes if num_items_in_batch is not None else 1)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        loader = self.accelerator.prepare(
            torch.utils.data.DataLoader(self.validation, self.args.eval_batch_size, collate_fn=self.validation.batch)
        )
        self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        with torch.no_grad():
            for batch in loader:
                total, tokens = answer_loss(self.model, batch)
                sums += torch.tensor([total.item(), tokens], dtype=torch.float64)
        self.model.train()
        loss, tokens = self.accelerator.reduce(sums.to(self.args.device), "sum").tolist()
        metrics = {"eval_loss": loss / tokens}
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}
            with whole(folder / WHOLE) as file:
                file.write_text(json.dumps(sizes), encoding="utf-8")


class _Speed(TrainerCallback):  # type: ignore[misc]
    """Adds to each log line what matters: real tokens a second, the share of padding, memory."""

    def __init__(self, rows: Rows, recipe: Recipe) -> None:
        cells = len(rows) * rows.length or sum(rows.width([row]) for row in rows.rows)
        self._tokens_a_row = rows.tokens / len(rows)
        self._padding = 1 - rows.tokens / cells
        self._rows_a_step = recipe.batch_size * recipe.accumulation

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not hasattr(self, "_start"):
            self._start, self._first = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs and state.global_step > self._first:
            rows = (state.global_step - self._first) * self._rows_a_step * args.world_size
            logs["tokens_per_second"] = round(rows * self._tokens_a_row / (time.monotonic() - self._start))
            logs["padding"] = round(self._padding, 4)
            if torch.cuda.is_available():
                logs["gpu_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)


def _newest(work: Path, mark: str) -> str | None:
    """The newest checkpoint that was written whole and belongs to these inputs; others are removed."""
    import shutil

    file = work / MADE_FROM
    if work.is_dir() and not (file.is_file() and file.read_text() == mark):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(mark)
    found = sorted(work.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    for folder in reversed(found):
        sizes = json.loads((folder / WHOLE).read_text()) if (folder / WHOLE).is_file() else None
        if sizes and all((folder / n).is_file() and (folder / n).stat().st_size == s for n, s in sizes.items()):
            return str(folder)
        shutil.rmtree(folder)
    return None


def _save(run: Run, model: Any, mark: str, history: list[dict[str, Any]]) -> None:
    with whole(run.adapter) as folder:
        model.save_pretrained(folder)
        (folder / "history.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
        (folder / MADE_FROM).write_text(mark)
    _plot(history, run.folder / "loss.png")


def _plot(history: list[dict[str, Any]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, label in (("loss", "training"), ("eval_loss", "validation")):
        points = [(entry["step"], entry[name]) for entry in history if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="o" if name == "eval_loss" else None)
    axes.set(xlabel="step", ylabel="loss (nats a learned token)", title="Fine-tuning")
    axes.grid(alpha=0.3)
    axes.legend()
    with whole(file) as path:
        figure.savefig(path, dpi=120, format="png")
    pyplot.close(figure)
