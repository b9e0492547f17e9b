"""kill -9 in the middle of fine-tuning, again and again: does the run end where an uninterrupted one does?

    python -m bench.kill_resume [--kills 10] [--seed 0]

The demo recipe on a small draw of its data, with a prompt that the embedded model does not know, so that there is a loss to
lower. One run is left alone. The other is killed at random moments after training began, every third time while a
checkpoint is being written, and started again with the same command. Prints a table and writes it to bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.results import write

ROOT = Path(__file__).parent.parent
BOUND = 1e-3
"""Largest difference of the losses, in nats a token."""
RECIPE = [
    "--recipe",
    "demo",
    "--examples",
    "80",
    "--epochs",
    "3",
    "--eval-steps",
    "4",
    "--eval-examples",
    "8",
    "--batch-size",
    "2",
    "--accumulation",
    "2",
    "--max-length",
    "128",
    "--prompt",
    "plain",
    "--loss",
    "sequence",
]


def command(stage: str, run: Path) -> list[str]:
    return [sys.executable, "-m", "train", stage, *RECIPE, "--run", str(run)]


class Session:
    """One start of the command, whose lines are read as they come."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.process = subprocess.Popen(
            command("finetune", run), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout or []))
        self.reader.start()

    def wait(self) -> None:
        if self.process.wait():
            raise SystemExit(f"finetune failed: {self.lines[-1:]}")
        self.reader.join()

    def until(self, happened, seconds: float) -> bool:  # type: ignore[no-untyped-def]
        """Whether it happened before the seconds were over or the process ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if happened():
                return True
            time.sleep(0.0005)
        return False

    def training(self) -> bool:
        return any("validation on" in line for line in self.lines)

    def saving(self) -> bool:
        """Whether a checkpoint lies there that is not whole yet."""
        return any(not (folder / "whole").exists() for folder in (self.run / "checkpoints").glob("checkpoint-*"))

    def kill(self) -> str:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        steps = [line.split(" of ")[0].rpartition(" ")[2] for line in self.lines if " step " in line]
        return f"after step {steps[-1] if steps else '–'}, " + ("inside a save" if self.saving() else "between saves")


def losses(run: Path) -> dict[int, float]:
    history = json.loads((run / "adapter" / "history.json").read_text())
    return {entry["step"]: entry["eval_loss"] for entry in history if "eval_loss" in entry}


def weights(run: Path) -> dict:  # type: ignore[type-arg]
    from safetensors.numpy import load_file

    return load_file(run / "adapter" / "adapter_model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        alone, killed = Path(name) / "alone", Path(name) / "killed"
        subprocess.run(command("prepare", alone), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        shutil.copytree(alone, killed)
        Session(alone).wait()
        moments = []
        while len(moments) < options.kills:
            session = Session(killed)
            session.until(session.training, 600)
            if len(moments) % 3 == 2:
                session.until(session.saving, 60)
            else:
                session.until(lambda: False, draw.uniform(0, 6))
            if session.process.poll() is not None:
                raise SystemExit("The run ended before it could be killed as often; lower --kills.")
            moments.append(session.kill())
            print(f"kill {len(moments)}: {moments[-1]}", flush=True)
        Session(killed).wait()
        expected, found = losses(alone), losses(killed)
        steps = sorted(expected)
        furthest = max(abs(found[step] - expected[step]) for step in steps)
        mine, theirs = weights(alone), weights(killed)
        apart = max(float(abs(mine[name] - theirs[name]).max()) for name in mine)
    table = "\n".join(f"| {number} | {moment} |" for number, moment in enumerate(moments, 1))
    last = steps[-1]
    text = (
        f"{len(moments)} kills, {sum('inside' in moment for moment in moments)} of them inside a save. Validation loss at the "
        f"last step ({last}): uninterrupted {expected[last]:.6f}, killed {found[last]:.6f}; at the first evaluation it was "
        f"{expected[steps[0]]:.4f}. Largest difference at any of {len(steps)} evaluations: {furthest:.1e} (bound {BOUND:g}); "
        f"largest difference of a weight of the adapter: {apart:.1e}.\n\n| kill | when |\n|---|---|\n{table}"
    )
    write("kill_resume", text, ["torch", "transformers", "peft", "bitsandbytes"])
    print(text)
    if furthest > BOUND:
        raise SystemExit("The killed run ended elsewhere.")


if __name__ == "__main__":
    main()
