"""Fine-tuning, for real on a few examples: killed and resumed, in two processes, and the sentences for what can go wrong.

Every run is a process of its own, forked from one that has imported the libraries already.
"""

import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from train import finetune as stage
from train.errors import TrainError
from train.finetune import WHOLE, Rows, _newest, finetune
from train.recipe import read
from train.run import Run, done, start

ROOT = Path(__file__).parent.parent.parent
SMALL = {
    # A prompt that the embedded model does not know, so that there is a loss to lower.
    "prompt": "plain",
    "loss": "sequence",
    "examples": 40,
    "max_length": 96,
    "batch_size": 2,
    "accumulation": 2,
    "epochs": 1.3,
    "eval_steps": 3,
    "eval_examples": 5,
    "base": str(ROOT / "space" / "demo"),
    "data": [str(ROOT / "train" / "sample.jsonl")],
}

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["train.finetune", "peft", "bitsandbytes", "accelerate"])


def recipe(**changes):
    return read("demo", SMALL | changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from train.data import prepare

    folder = tmp_path_factory.mktemp("data")
    prepare(recipe(), folder)
    return folder / "data"


def run_of(folder, data, **changes):
    run = start(recipe(**changes), folder)
    shutil.copytree(data, run.data, dirs_exist_ok=True)
    return run


def session(run, before=None, environment=None):
    """Fine-tunes in a process of its own; its exit code, and what it printed."""
    output = run.folder / "output"
    process = _processes.Process(target=_session, args=(run, before, environment or {}, output))
    process.start()
    return process, output


def _session(run, before, environment, output):
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    if before:
        before()
    try:
        finetune(run)
    except TrainError as error:
        print(f"refused: {error}", flush=True)
        os._exit(2)


def finished(run, **options):
    process, output = session(run, **options)
    process.join(110)
    return process.exitcode, output.read_text()


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def die_inside_the_second_save():
    def save(state, file, *_, saves=[], **__):  # noqa: B006
        saves.append(file)
        if sum("optimizer" in str(name) for name in saves) == 2:
            Path(file).write_bytes(b"half of it")
            die()
        return plain(state, file)

    plain, torch.save = torch.save, save


def die_when_the_last_checkpoint_is_whole():
    stage._plot = die


def die_inside_the_adapter():
    def copy(source, target):
        (Path(target) / Path(source).name).write_bytes(b"half of it")
        die()

    stage.shutil.copy = copy


def history(run, name="eval_loss"):
    entries = json.loads((run.adapter / "history.json").read_text())
    return {entry["step"]: entry[name] for entry in entries if name in entry}


def weights(run):
    from safetensors.numpy import load_file

    return load_file(run.adapter / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    run = run_of(tmp_path_factory.mktemp("alone"), data)
    code, output = finished(run)
    assert code == 0, output
    return run, output


# ---- killed and resumed -------------------------------------------------------------------------------------------


def test_killed_inside_a_save_and_at_the_end_it_comes_to_the_same(data, uninterrupted, tmp_path):
    expected, _ = uninterrupted
    run = run_of(tmp_path / "run", data)
    for moment in (die_inside_the_second_save, die_inside_the_adapter):
        code, output = finished(run, before=moment)
        assert code == -signal.SIGKILL, output
        assert not run.adapter.exists()
    code, output = finished(run)
    assert code == 0, output
    assert "checkpoint-6 is damaged or was not written to its end" in output
    assert "going on from" in output and "checkpoint-3." in output  # noqa: PT018
    steps = max(history(expected))
    assert f"checkpoint-{steps}." in output  # the last session had nothing left to train
    assert output.count(f"step {steps} of {steps}") == 1
    assert history(run) == pytest.approx(history(expected), abs=1e-3)
    assert history(expected)[steps] < history(expected)[3] - 0.05  # there was something to learn
    assert all(np.abs(weights(run)[name] - value).max() < 1e-6 for name, value in weights(expected).items())
    assert sorted(path.name for path in run.folder.iterdir()) == sorted(
        path.name for path in expected.folder.iterdir()
    )  # and nothing half-written is left


def checkpoint(work, step, files=("adapter_model.safetensors", "optimizer.pt")):
    folder = work / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text(f"{name} {step}")
    (folder / WHOLE).write_text(stage._content(folder))
    return folder


@pytest.fixture
def work(tmp_path):
    assert _newest(tmp_path / "checkpoints", "mark", 1) is None
    checkpoint(tmp_path / "checkpoints", 50)
    return tmp_path / "checkpoints"


def without_its_end(folder):
    (folder / WHOLE).unlink()


def half_removed(folder):
    (folder / "adapter_model.safetensors").unlink()


def truncated(folder):
    (folder / "optimizer.pt").write_text("opt")


def changed(folder):
    (folder / "optimizer.pt").write_text("optimizer.pt 101")


@pytest.mark.parametrize("damage", [without_its_end, half_removed, truncated, changed])
def test_a_damaged_checkpoint_is_passed_over_and_said_so(work, damage, capsys):
    damage(checkpoint(work, 100))
    assert _newest(work, "mark", 1) == work / "checkpoint-50"
    assert "checkpoint-100 is damaged" in capsys.readouterr().out
    assert not (work / "checkpoint-100").exists()


def test_the_newest_checkpoint_is_by_number(work):
    newest = checkpoint(work, 1000)
    assert _newest(work, "mark", 1) == newest


def test_checkpoints_of_another_recipe_are_not_gone_on_from(work, capsys):
    assert _newest(work, "other mark", 1) is None
    assert "belong to another recipe" in capsys.readouterr().out
    assert not list(work.glob("checkpoint-*"))


def test_checkpoints_of_more_processes_are_kept_and_refused(work):
    with pytest.raises(TrainError, match="made by 1 processes, not 2"):
        _newest(work, "mark", 2)
    assert (work / "checkpoint-50").is_dir()


def test_what_does_not_change_what_is_learned_keeps_the_checkpoints(data, tmp_path):
    same = [recipe(), recipe(name="other"), recipe(gradient_checkpointing=True), recipe(report_to=["trackio"])]
    assert len({stage._mark(one, data) for one in same}) == 1
    assert stage._mark(recipe(learning_rate=1e-5), data) != stage._mark(recipe(), data)


# ---- what it leaves -------------------------------------------------------------------------------------------------


def uphill_from_step_6_on():
    def loss(model, batch):
        total, tokens = plain(model, batch)
        if total.requires_grad:
            seen.append(tokens)
            total.register_hook(lambda gradient: gradient if len(seen) <= 6 * 2 else -10 * gradient)
        return total, tokens

    seen = []
    plain, stage.answer_loss = stage.answer_loss, loss


def test_the_adapter_is_the_best_checkpoints(data, tmp_path):
    run = run_of(tmp_path / "run", data)
    code, output = finished(run, before=uphill_from_step_6_on)
    assert code == 0, output
    scores, metrics = history(run), run.recorded("training")
    best = min(scores, key=scores.get)
    assert scores[max(scores)] > scores[best] + 0.01
    assert (metrics["best_step"], metrics["best_eval_loss"]) == (best, scores[best])
    lowest = [step for step in scores if scores[step] == min(scores[s] for s in scores if s <= step)]
    assert output.count("the lowest so far") == len(lowest)
    from peft import PeftModel

    model, tokenizer = stage.load_base(run.recipe, "cpu")
    model = PeftModel.from_pretrained(model, run.adapter)
    rows = Rows(run.data / "validation.parquet", tokenizer, run.recipe, run.recipe.eval_examples)
    with torch.no_grad():
        total, tokens = stage.answer_loss(model, rows.batch(rows.rows))
    assert float(total) / tokens == pytest.approx(scores[best], abs=1e-4)


def test_what_is_said_and_recorded(uninterrupted):
    run, output = uninterrupted
    training = [line for line in output.splitlines() if " · loss " in line]
    assert training
    assert all(part in training[-1] for part in ("step 10 of", "tokens/s", "% padding", "GiB", "left"))
    metrics = run.recorded("training")
    assert f"training on {metrics['examples']:,} examples, {metrics['tokens']:,} tokens" in output
    assert metrics["steps"] == max(history(run)) == math.ceil(metrics["rows"] / 4 * 1.3)
    assert metrics["trainable_parameters"] > 100_000
    speed = history(run, "tokens_per_second")[10]
    assert 0.8 * 10 * 4 * 96 / metrics["seconds"] < speed  # evaluations take time too, so this is less
    assert (run.folder / "loss.png").stat().st_size > 1000
    assert done(run.adapter, (run.adapter / "made_from").read_text())
    assert not (run.folder / "checkpoints").exists()
    assert not list(run.folder.rglob("*.bin"))  # pickles that may hold a token
    code, output = finished(run)
    assert (code, output.splitlines()[-1]) == (0, f"finetune: {run.adapter} is up to date.")


def test_examples_without_room_are_counted_and_the_others_are_there(data, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "space" / "demo")
    whole = Rows(data / "train.parquet", tokenizer, recipe(prompt="chat", loss="answer", max_length=512))
    assert whole.dropped == 0
    middle = sorted(example.learned_from for example in whole.examples)[len(whole.examples) // 2]
    cut = recipe(prompt="chat", loss="answer", max_length=middle)
    short = Rows(data / "train.parquet", tokenizer, cut, multiple=8)
    assert short.dropped == len(whole.examples) - len(short.examples) > 0
    assert f"{short.dropped} left out" in str(short)
    assert all(example.learned_from < len(example) for example in short.examples)
    assert len(short) % 8 == 0
    assert sorted(index for row in short.rows for index in row) == list(range(len(short.examples)))
    batch = short.batch([short.rows[0], []])
    assert batch["tokens"].tolist() == [sum(len(short.examples[i]) for i in short.rows[0]), 0]
    assert (batch["labels"][1] == -100).all()
    with pytest.raises(TrainError, match="raise max_length"):
        Rows(data / "train.parquet", tokenizer, recipe(max_length=32, prompt="chat"))


# ---- several processes ------------------------------------------------------------------------------------------------


def test_two_processes_learn_what_one_does(data, tmp_path):
    """As `accelerate launch --cpu --num_processes 2` starts them, with half the accumulation: the same global batch."""
    alone = run_of(tmp_path / "alone", data, lora_dropout=0.0)
    together = run_of(tmp_path / "together", data, lora_dropout=0.0, accumulation=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launched = {
        "ACCELERATE_USE_CPU": "true",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    ranks = [session(together, environment=launched | {"RANK": str(n), "LOCAL_RANK": str(n)}) for n in range(2)]
    code, output = finished(alone)
    assert code == 0, output
    for process, output in ranks:
        process.join(110)
        assert process.exitcode == 0, output.read_text()
    assert history(together) == pytest.approx(history(alone), abs=1e-3)
    assert history(together, "loss") == pytest.approx(history(alone, "loss"), abs=1e-3)
    assert len(history(alone)) > 3
    assert together.recorded("training")["processes"] == 2
    assert ranks[0][1].read_text().count("step 3 of") == 1  # one process speaks


def test_several_gpus_in_one_process_are_refused(data, tmp_path, monkeypatch):
    run = run_of(tmp_path / "run", data)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(TrainError, match=r"There are 2 GPUs.*accelerate launch -m train finetune"):
        finetune(run)


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_accelerate_takes_the_shipped_configurations(name):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import FullyShardedDataParallelPlugin

    file = ROOT / "train" / "recipes" / "accelerate" / f"{name}.yaml"
    arguments = launch_command_parser().parse_args(
        ["--config_file", str(file), "--num_processes", "2", "-m", "train", "finetune"]
    )
    found, _, _ = _validate_launch_command(arguments)
    assert (found.num_processes, found.multi_gpu, found.use_fsdp) == (2, name == "ddp", name == "fsdp")
    if name == "fsdp":
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=found.fsdp_version,
            auto_wrap_policy=found.fsdp_auto_wrap_policy,
            state_dict_type=found.fsdp_state_dict_type,
            cpu_ram_efficient_loading=found.fsdp_cpu_ram_efficient_loading == "true",
        )
        assert "FULL_STATE_DICT" in str(plugin.state_dict_type)  # or Trainer would leave no adapter in a checkpoint


# ---- what can go wrong ----------------------------------------------------------------------------------------------


def no_room():
    """From the second checkpoint on, no file may be longer than 100 kB: as on a full disk, writing ends halfway."""

    def save(trainer, *options):
        if trainer.state.global_step > 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        return plain(trainer, *options)

    plain, stage._Trainer._save_checkpoint = stage._Trainer._save_checkpoint, save


def test_a_full_disk_ends_it_with_a_sentence_and_loses_nothing(data, tmp_path):
    run = run_of(tmp_path / "run", data)
    code, output = finished(run, before=no_room)
    assert code == 2, output
    assert "checkpoint-6 could not be written (" in output
    assert "make room and run the stage again" in output
    assert (run.folder / "checkpoints" / "checkpoint-3" / WHOLE).is_file()


def nan_in_the_second_step():
    def loss(model, batch):
        total, tokens = plain(model, batch)
        seen.append(tokens)
        return total * (math.nan if len(seen) == 3 else 1), tokens

    seen = []
    plain, stage.answer_loss = stage.answer_loss, loss


def nan_in_the_gradients():
    def loss(model, batch):
        total, tokens = plain(model, batch)
        if total.requires_grad:
            total.register_hook(lambda gradient: gradient * math.nan)
        return total, tokens

    plain, stage.answer_loss = stage.answer_loss, loss


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (nan_in_the_second_step, "The loss is nan after step 1; lower learning_rate"),
        (nan_in_the_gradients, "The norm of the gradients is nan after step 0; lower learning_rate"),
    ],
)
def test_nan_stops_at_once(data, tmp_path, spoil, said):
    run = run_of(tmp_path / "run", data, bits=32)
    code, output = finished(run, before=spoil)
    assert code == 2, output
    assert said in output
    assert not list((run.folder / "checkpoints").glob("checkpoint-*"))


class Attempts:
    def __init__(self, *errors):
        self.errors, self.recipes = list(errors), []

    def __call__(self, run, recipe, mark):
        self.recipes.append(recipe.gradient_checkpointing)
        if self.errors:
            raise self.errors.pop(0)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "cpu"])
def test_out_of_memory_is_tried_again_aloud_with_gradient_checkpointing(data, tmp_path, monkeypatch, capsys, error):
    run = run_of(tmp_path / "run", data)
    attempts = Attempts(error)
    monkeypatch.setattr(stage, "_train", attempts)
    finetune(run)
    assert attempts.recipes == [False, True]
    assert "out of memory; trying again with gradient checkpointing" in capsys.readouterr().out


def test_out_of_memory_twice_is_a_sentence(data, tmp_path, monkeypatch):
    run = run_of(tmp_path / "run", data)
    monkeypatch.setattr(stage, "_train", Attempts(*OUT_OF_MEMORY))
    with pytest.raises(TrainError, match="too little memory to train on cpu; lower batch_size or max_length"):
        finetune(run)


def test_another_error_of_torch_is_not_taken_for_it(data, tmp_path, monkeypatch):
    run = run_of(tmp_path / "run", data)
    monkeypatch.setattr(stage, "_train", Attempts(RuntimeError("size mismatch")))
    with pytest.raises(RuntimeError, match="size mismatch"):
        finetune(run)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nonsense", "names 'nonsense', which is no tracker"),
        ("comet_ml", "'comet_ml', which is not installed; pip install"),
    ],
)
def test_trackers_that_are_not_there(data, tmp_path, name, said):
    with pytest.raises(TrainError, match=said):
        finetune(run_of(tmp_path / "run", data, report_to=[name]))


def test_a_run_without_data_names_the_stage(tmp_path):
    with pytest.raises(TrainError, match="python -m train prepare"):
        finetune(Run(recipe(), tmp_path))
