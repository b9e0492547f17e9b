"""The adapter: rows of the training split through the frozen base, with transformers' Trainer.

    run/data → run/checkpoints (while it runs) → run/adapter, run/loss.png, metrics.json

Killed at any moment, the same command goes on from the newest checkpoint that was written whole. On several GPUs start it
with `accelerate launch -m train finetune …`; the adapter is the best checkpoint's, by the loss on the validation split.
"""

from __future__ import annotations

import gc
import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import rotate_checkpoints

from space.engine.loading import out_of_memory
from train.base import compute_dtype, load_base, with_adapter
from train.errors import TrainError
from train.loss import answer_loss
from train.packing import Encoded, arrange, collate, encode
from train.recipe import Recipe
from train.run import MADE_FROM, Run, done, fingerprint, whole, writing
from train.selfcheck import refuse, selfcheck

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WHOLE = "whole"
"""The file that the last thing done to a checkpoint leaves in it: a hash of all the others."""

KEPT = 2
"""Checkpoints on the disk: the best one and the newest."""

ELSEWHERE = {"name", "report_to", "gradient_checkpointing", "benchmarks", "benchmark_questions", "rouge_examples"}
"""Options that change nothing of what is learned from the data that `prepare` made: a run may go on with others."""


class Rows(Dataset[list[int]]):
    """Training rows [L] of a split, packed as the recipe says; `dropped` examples had no room for any of their answer.

    Rows without any example fill them up to a multiple of `multiple`, so that every step of every process has as many.
    """

    def __init__(
        self, file: Path, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, most: int = 0, multiple: int = 1
    ) -> None:
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
        self.filled = len(self.rows)
        self.rows += [[] for _ in range(-len(self.rows) % multiple)]
        self.length = recipe.max_length if recipe.packing else 0
        self.pad = tokenizer.pad_token_id or 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> list[int]:
        return self.rows[index]

    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """`train.packing.collate` of some rows, tensors [B, L], and the number of real `tokens` in each, [B]."""
        tokens = torch.tensor([sum(len(self.examples[index]) for index in row) for row in rows])
        return collate(self.examples, rows, self.width(rows), self.pad) | {"tokens": tokens}

    def width(self, rows: Sequence[Sequence[int]]) -> int:
        """L: the recipe's length when rows are packed, else the longest example's."""
        return self.length or max(1, *(sum(len(self.examples[index]) for index in row) for row in rows))

    @property
    def tokens(self) -> int:
        """Real tokens, without padding."""
        return sum(len(example) for example in self.examples)

    def __str__(self) -> str:
        said = f"{len(self.examples):,} examples, {self.tokens:,} tokens in {self.filled:,} rows"
        return said + (f"; {self.dropped:,} left out, as their question leaves no room" if self.dropped else "")


def finetune(run: Run) -> None:
    """Make run/adapter. Raises `TrainError` for what the user can mend; running out of memory is tried again once."""
    from accelerate import PartialState

    data = run.need(run.data, "prepare")
    recipe = run.recipe
    mark = _mark(recipe, data)
    if done(run.adapter, mark):
        print(f"finetune: {run.adapter} is up to date.")
        return
    check_trackers(recipe)
    processes = PartialState(cpu=not torch.cuda.is_available())
    if torch.cuda.device_count() > 1 and processes.num_processes == 1:
        raise TrainError(
            f"There are {torch.cuda.device_count()} GPUs, which one process cannot train on; start this stage with "
            f"accelerate launch -m train finetune --recipe {run.recipe_name}, or set CUDA_VISIBLE_DEVICES=0."
        )
    again = processes.num_processes == 1 and not recipe.gradient_checkpointing  # processes cannot agree on it
    for attempt in [recipe, replace(recipe, gradient_checkpointing=True)] if again else [recipe]:
        if attempt is not recipe:
            _say("out of memory; trying again with gradient checkpointing, which is slower.")
            gc.collect()  # the error, with the model that it held, is gone only here
            torch.cuda.empty_cache()
        try:
            _train(run, attempt, mark)
            return
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
    advice = "lower batch_size or max_length" + ("" if again else ", or set gradient_checkpointing")
    raise TrainError(f"There is too little memory to train on {processes.device}; {advice}.")


def check_trackers(recipe: Recipe) -> None:
    """Raises `TrainError` for a tracker of `report_to` that is unknown or not installed."""
    from transformers.integrations import get_reporting_integration_callbacks

    for name in recipe.report_to:
        try:
            get_reporting_integration_callbacks([name])[0]()
        except ValueError as error:
            raise TrainError(f"The recipe's report_to names {name!r}, which is no tracker: {error}") from error
        except (ImportError, RuntimeError) as error:
            raise TrainError(
                f"The recipe's report_to names {name!r}, which is not installed; pip install {name}, or leave it out."
            ) from error


def _mark(recipe: Recipe, data: Path) -> str:
    """The fingerprint of all that decides what is learned: options, both splits, and a local base's files."""
    options = {name: value for name, value in recipe.as_dict().items() if name not in ELSEWHERE}
    base = Path(recipe.base)
    files = [file for kind in ("*.safetensors", "*.json", "*.jinja") for file in sorted(base.glob(kind))]
    used = [file for file in files if file.name != "metrics.json"]
    return fingerprint(options, data / "train.parquet", data / "validation.parquet", *used)


def _say(text: str) -> None:
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(f"finetune: {text}", flush=True)


def _train(run: Run, recipe: Recipe, mark: str) -> None:
    from accelerate import PartialState

    processes = PartialState()
    device = processes.device if processes.device.type == "cuda" else torch.device("cpu")
    base, tokenizer = load_base(recipe, device)
    model = with_adapter(base, recipe)
    checks = selfcheck(model, tokenizer, recipe)
    for check in checks:
        _say(f"{check.name}: {'ok' if check.passed else 'FAILED'} ({check.detail})")
    refuse(checks)
    rows = recipe.batch_size * processes.num_processes
    train = Rows(run.data / "train.parquet", tokenizer, recipe, multiple=rows * recipe.accumulation)
    validation = Rows(run.data / "validation.parquet", tokenizer, recipe, recipe.eval_examples, multiple=rows)
    _say(f"training on {train}.")
    _say(f"validation on {validation}.")
    work = run.folder / "checkpoints"
    with processes.main_process_first():
        newest = _newest(work, mark, processes.num_processes)
    trainer = _Trainer(
        model=model,
        args=_arguments(recipe, work, device),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=train.batch,
    )
    trainer.remove_callback(PrinterCallback)  # `_Trainer.log` prints
    state = TrainerState.load_from_json(str(newest / "trainer_state.json")) if newest else None
    if state is None or state.global_step < state.max_steps:  # Trainer would add a step to a run that is complete
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
        state = trainer.state
    if processes.is_main_process:
        history = [entry for entry in state.log_history if "loss" in entry or "eval_loss" in entry]
        _plot(history, run.folder / "loss.png")
        cost = {
            "seconds": history[-1]["seconds"],
            "steps": state.global_step,
            "tokens": train.tokens,
            "examples": len(train.examples),
            "rows": train.filled,
            "dropped": train.dropped,
            "best_eval_loss": state.best_metric,
            "best_step": state.best_global_step,
            "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "gib": history[-1]["gib"],
            "processes": processes.num_processes,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        }
        run.record(training=cost)
        best, last = (_folder(work, step) for step in (state.best_global_step, state.global_step))
        if not _is_whole(best):
            _say(f"{best}, the best one, is damaged; taking {last}.")
        _save(run, best if _is_whole(best) else last, mark, history)
    processes.wait_for_everyone()


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
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=10,
        logging_nan_inf_filter=False,  # by default NaN is hidden
        disable_tqdm=True,
        bf16=compute is torch.bfloat16,
        fp16=compute is torch.float16,
        activation_checkpointing=recipe.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if recipe.gradient_checkpointing else None,
        ddp_find_unused_parameters=False,
        seed=recipe.seed,
        report_to=list(recipe.report_to) or "none",
        run_name=recipe.name,
        project="medical-question-answering",
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
    )


class _Trainer(Trainer):  # type: ignore[misc]
    """Trainer with our loss, token-weighted over the whole global batch and over the whole evaluation; with our log lines;
    and with checkpoints that say whether they are whole."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.model_accepts_loss_kwargs = True  # so that it counts the learned tokens of all accumulated batches
        self._counted = torch.zeros(2, dtype=torch.int64, device=self.args.device)  # real tokens, and all of them

    # ---- loss ----

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        total, _ = answer_loss(model, inputs)
        self._finite(total.detach(), "loss")
        self._counted[0] += inputs["tokens"].sum()
        self._counted[1] += inputs["input_ids"].numel()
        # DDP and FSDP average gradients over processes, but the count is already that of all of them.
        mean: torch.Tensor = total / num_items_in_batch * self.accelerator.num_processes
        return mean

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self.accelerator.scaler is None:  # which skips such steps, and has to
            self._finite(norm, "norm of the gradients")
        return norm

    def _finite(self, value: Any, name: str) -> None:
        if not math.isfinite(float(value)):
            raise TrainError(
                f"The {name} is {float(value)} after step {self.state.global_step}; lower learning_rate, or look for "
                "broken rows."
            )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        start = time.monotonic()
        rows: Rows = self.eval_dataset
        size, sums = self.args.eval_batch_size, torch.zeros(2, dtype=torch.float64)
        self.model.eval()
        with torch.no_grad():
            for first in range(self.args.process_index * size, len(rows), self.args.world_size * size):
                batch = self._prepare_inputs(rows.batch(rows.rows[first : first + size]))
                total, tokens = answer_loss(self.model, batch)
                sums += torch.tensor([total.item(), tokens], dtype=torch.float64)
        self.model.train()
        loss, tokens = self.accelerator.reduce(sums.to(self.args.device), "sum").tolist()
        self._finite(loss, "validation loss")
        metrics = {"eval_loss": loss / tokens}
        self._window += time.monotonic() - start  # no time of training
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # ---- log ----

    def train(self, *options: Any, **named: Any) -> Any:
        """As Trainer does, and starts the clock."""
        self._begun = self._logged = self._window = time.monotonic()
        return super().train(*options, **named)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if not {"loss", "eval_loss"} & set(logs):
            return  # Trainer's summary, which knows nothing of earlier sessions
        now, state = time.monotonic(), self.state
        if "loss" in logs:
            real, all_ = self.accelerator.reduce(self._counted, "sum").tolist()
            logs |= {"tokens_per_second": round(real / (now - self._window)), "padding": round(1 - real / all_, 4)}
            self._counted.zero_()
            self._window = now
        before = state.log_history[-1]["seconds"] if state.log_history else 0.0  # of earlier sessions too
        logs["seconds"] = round(before + now - self._logged, 2)
        self._logged = now
        logs["gib"] = round(_memory(self.args.device) / 2**30, 2)
        left = (
            (now - self._begun)
            / max(state.global_step - self._initial_global_step, 1)
            * (state.max_steps - state.global_step)
        )
        _say(_line(logs, state, left))
        super().log(logs, start_time)

    # ---- checkpoints ----

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        from accelerate import PartialState

        start = time.monotonic()
        work = Path(self.args.output_dir)
        folder = _folder(work, self.state.global_step)
        with writing(folder):
            super()._save_checkpoint(model, trial)
            PartialState().wait_for_everyone()  # each process leaves its random state there
            if self.args.should_save:
                with whole(folder / WHOLE) as file:
                    file.write_text(_content(folder), encoding="utf-8")
        if self.args.should_save:  # Trainer would do it before the new one is known to be whole
            best = str(_folder(work, self.state.best_global_step))
            rotate_checkpoints(str(work), KEPT, best_model_checkpoint=best)
        self._window += time.monotonic() - start

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best = self.state.best_global_step
        if best and not _is_whole(_folder(Path(self.args.output_dir), best)):  # lost, and with it what it scored
            self.state.best_metric = self.state.best_global_step = None
        return bool(super()._determine_best_metric(metrics, trial))


def _memory(device: torch.device) -> int:
    """Most bytes that tensors held on a GPU; on a CPU what the process holds now."""
    import psutil

    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def _line(logs: dict[str, Any], state: Any, left: float) -> str:
    said = [f"step {state.global_step} of {state.max_steps}"]
    if "eval_loss" in logs:
        best = state.best_metric is None or logs["eval_loss"] < state.best_metric
        said.append(f"validation loss {logs['eval_loss']:.4f}" + (", the lowest so far" if best else ""))
    else:
        said += [
            f"loss {logs['loss']:.4f}",
            f"{logs['tokens_per_second']:,} tokens/s",
            f"{logs['padding']:.1%} padding",
        ]
    minutes = round(left / 60)
    time_left = f"{left:.0f} s" if left < 120 else f"{minutes} min" if minutes < 120 else f"{left / 3600:.1f} h"
    return " · ".join([*said, f"{logs['gib']} GiB", f"{time_left} left"])


def _folder(work: Path, step: int | None) -> Path:
    return work / f"checkpoint-{step}"


def _content(checkpoint: Path) -> str:
    """A hash of a checkpoint's files."""
    return fingerprint(*sorted(f for f in checkpoint.rglob("*") if f.is_file() and f.name != WHOLE))


def _is_whole(checkpoint: Path) -> bool:
    said = checkpoint / WHOLE
    return said.is_file() and said.read_text(encoding="utf-8") == _content(checkpoint)


def _newest(work: Path, mark: str, processes: int) -> Path | None:
    """The newest checkpoint that was written whole and belongs to these inputs; others are removed, which is said."""
    known, _, made_by = (work / MADE_FROM).read_text().partition(" ") if (work / MADE_FROM).is_file() else ("", "", "")
    if known == mark and made_by != str(processes):
        raise TrainError(
            f"The checkpoints in {work} were made by {made_by} processes, not {processes}; start as many, or remove them."
        )
    if known != mark:
        if any(work.glob("checkpoint-*")):
            _say(f"the checkpoints in {work} belong to another recipe, base or data; beginning anew.")
        with writing(work):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            (work / MADE_FROM).write_text(f"{mark} {processes}")
    for folder in sorted(work.glob("checkpoint-*"), key=lambda folder: -int(folder.name.partition("-")[2])):
        if _is_whole(folder):
            _say(f"going on from {folder}.")
            return folder
        _say(f"{folder} is damaged or was not written to its end; it is removed.")
        shutil.rmtree(folder)
    return None


def _save(run: Run, checkpoint: Path, mark: str, history: list[dict[str, Any]]) -> None:
    """Adapter and history to run/adapter, whole; then the checkpoints are not needed any more."""
    with whole(run.adapter) as folder:
        folder.mkdir()
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            shutil.copy(checkpoint / name, folder)
        (folder / "history.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
        (folder / MADE_FROM).write_text(mark)
    shutil.rmtree(checkpoint.parent)


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
