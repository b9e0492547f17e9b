"""All stages for real on a small draw of our own sample: NF4, LoRA, checkpoints, merge, evaluation, card."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SMALL = ["--examples", "300", "--epochs", "0.2", "--eval-steps", "3", "--eval-examples", "10"]


def run(folder: Path) -> str:
    command = [sys.executable, "-m", "train", "all", "--recipe", "demo", "--run", str(folder), *SMALL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_all_stages_make_a_model_that_opens_plainly_and_are_left_out_the_second_time(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "run"
    run(folder)
    model = AutoModelForCausalLM.from_pretrained(folder / "merged")
    assert model.num_parameters() > 2_000_000
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["merge"]["logit_change"] > metrics["merge"]["logit_rounding"]
    assert f"{metrics['training']['examples']:,} training examples" in (folder / "README.md").read_text()
    assert (folder / "loss.png").stat().st_size > 1000
    again = run(folder)
    assert again.count("is up to date") == 4
