"""Training on a machine that fails: the disk is full, the clock jumps, rows are of every wrong shape, two runs share a directory.

Each time one sentence, and nothing that was finished is lost.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reliability.hostile import BOUNDED, VALUES
from train.errors import TrainError
from train.recipe import Recipe, read
from train.run import LOCK, MADE_FROM, Run, alone, start

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "train", "prepare", "--recipe", "demo", "--examples", "300"]

# ---- two runs on one directory --------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder by its content, but for the lock."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in (LOCK, "filler"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_second_run_on_a_directory_refuses_and_changes_nothing(tmp_path):
    run = start(read("demo"), tmp_path)
    before = contents(tmp_path)
    with alone(run.folder):
        done = subprocess.run(
            [*COMMAND, "--run", str(tmp_path), "--seed", "9"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2
    assert (
        done.stderr
        == f"Another process is at work in {tmp_path}; wait for its end, or choose another directory with --run.\n"
    )
    assert contents(tmp_path) == before


def test_the_lock_dies_with_its_process(tmp_path):
    code = f"import time; from pathlib import Path; from train.run import alone\nwith alone(Path({str(tmp_path)!r})): print('in', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"in\n"
        with pytest.raises(TrainError, match="Another process is at work"), alone(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with alone(tmp_path):
        pass


# ---- a full disk ----------------------------------------------------------------------------------------------------

SMALL = replace(read("demo"), examples=200, lora_r=2, eval_examples=4, rouge_examples=0)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of 48 MB."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here ({mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def run(disk: Path) -> Run:
    """A run on that disk whose adapter has random weights, as if it had learned something."""
    import torch

    from train.base import load_base, with_adapter
    from train.data import prepare

    run = start(SMALL, disk / "run")
    prepare(SMALL, run.folder)
    adapted = with_adapter(load_base(replace(SMALL, bits=32), "cpu")[0], SMALL)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
    checkpoint = run.folder / "checkpoints" / "checkpoint-3"
    adapted.save_pretrained(checkpoint)
    run.record(training={}, evaluation={})
    return run


def prepare_data(run: Run) -> None:
    from train.data import prepare

    prepare(SMALL, run.folder, made_from="again")


def save_adapter(run: Run) -> None:
    from train.finetune import _save

    _save(run, run.folder / "checkpoints" / "checkpoint-3", "mark", [{"step": 3, "loss": 1.0}])


def merge(run: Run) -> None:
    from train.merge import merge

    merge(run)


def gguf(run: Run) -> None:
    from train.gguf import gguf

    gguf(run)


def evaluate(run: Run) -> None:
    from train import evaluate as stage

    raw = {"answer": [1.0] * 3000, "sequence": [1.0] * 3000}
    measured = {"losses": dict.fromkeys(stage.SPLITS, raw), "tokens": dict.fromkeys(stage.SPLITS, raw)}
    plain, stage._measured = stage._measured, lambda *_: measured  # what it costs is not what is tested
    try:
        stage._scored(run, stage._models(run)[1], {})
    finally:
        stage._measured = plain


def card(run: Run) -> None:
    from train import card as stage

    plain, stage.card = stage.card, lambda *_: "A card.\n" * 4000
    try:
        stage.write(run)
    finally:
        stage.card = plain


STAGES = [prepare_data, save_adapter, merge, gguf, evaluate, card]
"""In their order: each leaves what the next one reads."""


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_a_full_disk_is_a_sentence_and_what_was_finished_stays(run: Run, disk: Path, stage: Any) -> None:
    before = contents(run.folder)
    filler = disk / "filler"
    free = shutil.disk_usage(disk).free
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - 20_480)
    try:
        with pytest.raises(
            TrainError, match=r"could not be written \(.*\); make room and run the stage again\.$"
        ) as error:
            stage(run)
        assert "\n" not in str(error.value)
        after = contents(run.folder)
        assert {name: after.get(name) for name in before} == before
        assert not [name for name in after if ".new" in name]
    finally:
        filler.unlink()
    stage(run)
    assert contents(run.folder) != before


# ---- a clock that jumps ---------------------------------------------------------------------------------------------


def test_the_newest_checkpoint_is_the_furthest_one_whatever_the_clock_said(tmp_path):
    from train.finetune import WHOLE, _content, _newest

    work = tmp_path / "checkpoints"
    work.mkdir()
    (work / MADE_FROM).write_text("mark 1")
    for step, written in ((3, 2_000_000_000), (6, 0), (12, 1_000_000_000)):
        folder = work / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").write_text(str(step))
        (folder / WHOLE).write_text(_content(folder))
        os.utime(folder, (written, written))
    assert _newest(work, "mark", 1) == work / "checkpoint-12"


def test_stages_of_a_run_are_timed_by_a_clock_that_does_not_jump(tmp_path, monkeypatch):
    from train import __main__ as command

    jumps = iter([1e9, 0.0, 2e9, -1e9] * 1000)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    folder = tmp_path / "run"
    assert command.main(["prepare", "--recipe", "demo", "--examples", "300", "--run", str(folder)]) == 0
    recorded = json.loads((folder / "metrics.json").read_text())["data"]
    noted = json.loads((folder / "training_info.json").read_text())["stages"]["prepare"]
    assert 0 <= recorded["seconds"] <= noted["seconds"] + 0.1 < 120


# ---- rows of every wrong shape ----------------------------------------------------------------------------------------

GOOD = {"instruction": "Answer.", "input": "What is gout?", "output": "A disease of the joints."}


@settings(BOUNDED, max_examples=6)
@given(
    rows=st.lists(VALUES | st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, VALUES)), min_size=40, max_size=60)
)
def test_a_row_of_any_shape_is_used_or_counted_and_the_good_ones_stay(tmp_path_factory, rows):
    from train.sources import DataSet, Malformed

    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [GOOD, *rows, GOOD]), encoding="utf-8")
    malformed = Malformed()
    found = list(DataSet(str(file), "train", Recipe().columns).rows(malformed))
    assert len(found) + sum(malformed.reasons.values()) == len(rows) + 2
    assert found[0] == found[-1] == tuple(GOOD.values())
    for example in (example for several in malformed.examples.values() for example in several):
        assert example.isprintable()
        assert len(example) < 300
