import math
import random
from pathlib import Path

import pytest

from train.errors import TrainError
from train.recipe import Recipe
from train.run import MADE_FROM, done, fingerprint, start, whole
from train.statistics import difference, interval


def test_what_fails_halfway_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with whole(target) as folder:
        folder.mkdir()
        (folder / "a").write_text("first")
    with pytest.raises(ZeroDivisionError), whole(target) as folder:
        folder.mkdir()
        (folder / "a").write_text("second")
        1 / 0  # noqa: B018
    assert (target / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="could not be written"), whole(tmp_path / "out"):
        raise OSError(28, "No space left on device")


def test_a_missing_input_names_the_command_that_makes_it(tmp_path: Path) -> None:
    run = start(Recipe(), tmp_path / "run")
    with pytest.raises(TrainError, match=r"python -m train finetune --recipe .*recipe\.yaml"):
        run.need(run.adapter, "finetune")


def test_a_stage_is_done_until_its_inputs_change(tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    output.mkdir()
    (data / "a").write_text("1")
    mark = fingerprint({"x": 1}, data)
    assert not done(output, mark)
    (output / MADE_FROM).write_text(mark)
    assert done(output, fingerprint({"x": 1}, data))
    (data / "a").write_text("2")
    assert not done(output, fingerprint({"x": 1}, data))


def test_metrics_of_stages_stand_side_by_side(tmp_path: Path) -> None:
    run = start(Recipe(), tmp_path / "run")
    run.record(training={"steps": 3})
    run.record(merge={"kept": "x"})
    assert run.recorded() == {"training": {"steps": 3}, "merge": {"kept": "x"}}


def test_the_mean_weighs_tokens_and_not_examples() -> None:
    assert interval([10.0, 1.0], [10, 100])["loss"] == pytest.approx(0.1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw, hits = random.Random(1), 0
    for _ in range(300):
        tokens = [draw.randint(5, 60) for _ in range(80)]
        losses = [size * draw.gauss(2.0, 0.5) for size in tokens]
        low, high = interval(losses, tokens)["interval"]
        hits += low <= 2.0 <= high
    assert 0.90 <= hits / 300 <= 0.99


def test_pairing_sees_a_change_that_the_spread_of_examples_would_hide() -> None:
    draw = random.Random(2)
    tokens = [20] * 50
    before = [20 * draw.uniform(0.5, 5) for _ in tokens]
    after = [loss - 1.0 for loss in before]
    change = difference(before, after, tokens)
    assert change["interval"][1] < 0
    assert change["loss"] == pytest.approx(-0.05)
    assert math.isclose(interval([], [])["tokens"], 0)
