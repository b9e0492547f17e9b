"""training_info.json: what a run was made with, so that somebody else can make it again and knows what it costs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from train.run import Run, fingerprint, whole

PARTS = {"prepare": "data", "finetune": "training", "merge": "merge", "evaluate": "evaluation"}
"""Stage → the part of metrics.json that it records when it has something to do."""

_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")


def info(run: Run) -> dict[str, Any]:
    """What training_info.json says; empty where there is none yet."""
    file = run.folder / "training_info.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def note(run: Run, stage: str, seconds: float) -> None:
    """Add a stage that has just been done: when, for how long, on what, with which versions."""
    stages = info(run).get("stages", {})
    stages[stage] = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        **environment(),
    }
    training, data = run.recorded("training"), run.recorded("data")
    record = {
        "name": run.recipe.name,
        "base": run.recipe.base,
        "base_revision": run.recipe.base_revision,
        "seed": run.recipe.seed,
        "data": data,
        "tokens": training.get("tokens"),
        "training_seconds": training.get("seconds"),
        "stages": stages,
        "recipe": run.recipe.as_dict(),
    }
    with whole(run.folder / "training_info.json") as file:
        file.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def data_record(run: Run) -> dict[str, Any]:
    """The fingerprint of the prepared rows, equal for equal rows, with the data sets' revisions and the size of the splits."""
    report = json.loads((run.data / "report.json").read_text(encoding="utf-8"))
    return {
        "fingerprint": fingerprint(*sorted(run.data.glob("*.parquet"))),
        "revisions": report["revisions"],
        "splits": report["splits"],
    }


def environment() -> dict[str, Any]:
    """This machine, the versions on it and the revision of this code."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "hardware": {
            "machine": platform.machine(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "gpus": gpus,
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "git": _git(),
    }


def _git() -> str | None:
    """The commit of this code, with "+" where it was changed since; None outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() or None
