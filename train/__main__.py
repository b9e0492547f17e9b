"""`python -m train <stage>`: the stages that make a model."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from train.errors import TrainError

if TYPE_CHECKING:
    from train.run import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one stage. Returns the exit status: 0, 1 for a score below what is needed, 2 for a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="python -m train", description="The factory of the medical chat's models.")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="stage")
    demo = stages.add_parser(
        "demo",
        help="build the embedded model, or score it",
        description="Build the embedded model from train/sample.jsonl.",
    )
    demo.add_argument("--check", action="store_true", help="score the folder instead of building it")
    demo.add_argument("--out", type=Path, metavar="DIR", help="the model's folder (default: space/demo)")
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the build (default: %(default)s)")
    demo.set_defaults(run=_demo)
    for name, help in _STAGES.items():
        stage = stages.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        stage.add_argument(
            "--recipe", default="", metavar="NAME|FILE.yaml", help="a recipe of train/recipes, or a file"
        )
        stage.add_argument(
            "--run", type=Path, metavar="DIR", help="the run directory (default: runs/<name>)", dest="folder"
        )
        _add_overrides(stage)
        stage.set_defaults(run=_run)
        if name == "gguf":
            stage.add_argument(
                "--model", type=Path, metavar="DIR", help="write this folder's model-q4_0.gguf into it instead"
            )
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except TrainError as error:
        print(error, file=sys.stderr)
        return 2


_STAGES = {
    "check": "see in seconds whether the run can work, before anything is downloaded",
    "prepare": "load, clean, split and report the data",
    "finetune": "train the adapter on the quantised base",
    "merge": "merge adapter and base into one model",
    "evaluate": "score base, adapter and merged model",
    "gguf": "write the merged model as GGUF files for llama.cpp",
    "card": "write the model card",
    "all": "run all stages, leaving out those whose inputs have not changed",
}


def _add_overrides(stage: argparse.ArgumentParser) -> None:
    """An option for every field of the recipe, e.g. --learning-rate 1e-4."""
    from dataclasses import fields

    from train.recipe import Recipe

    group = stage.add_argument_group("recipe", "each option replaces the recipe's; lists as [a, b]")
    for option in fields(Recipe):
        group.add_argument(
            f"--{option.name.replace('_', '-')}",
            dest=f"recipe_{option.name}",
            metavar="X",
            help=f"{option.metadata['help']} (default: {option.default})".replace("%", "%%"),
        )


def _run(options: argparse.Namespace) -> int:
    if getattr(options, "model", None):
        from train.gguf import about_folder, export

        export(options.model, options.model / "model-q4_0.gguf", "q4_0", about_folder(options.model))
        return 0
    from train.recipe import read
    from train.record import PARTS, note
    from train.run import RUNS, alone, start

    if options.stage != "finetune" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise TrainError(f"Only finetune runs in several processes; run {options.stage} without accelerate launch.")
    given = {name.removeprefix("recipe_"): value for name, value in vars(options).items() if name.startswith("recipe_")}
    recipe = read(options.recipe, {name: value for name, value in given.items() if value is not None})
    folder = options.folder or RUNS / recipe.name
    with alone(folder):
        run = start(recipe, folder)
        for name in [n for n in _STAGES if n != "all"] if options.stage == "all" else [options.stage]:
            before, began = run.recorded(PARTS.get(name, "")), time.monotonic()
            _stage(name)(run)
            if name in PARTS and run.recorded(PARTS[name]) != before and os.environ.get("RANK", "0") == "0":
                note(run, name, time.monotonic() - began)
    print(f"Done: {run.folder}")
    return 0


def _check(run: Run) -> None:
    from train.check import check

    if not check(run):
        raise SystemExit(1)


def _prepare(run: Run) -> None:
    from train import benchmarks
    from train.base import _folder, _tokenizer
    from train.data import prepare
    from train.record import data_record
    from train.run import done, fingerprint

    local = [Path(data) for data in run.recipe.data if Path(data).exists()]
    mark = fingerprint(run.recipe.as_dict(), *local, *benchmarks.files(run.recipe))
    if done(run.data, mark) and run.recorded("data").get("made_from") == mark:
        print(f"prepare: {run.data} is up to date.")
        return
    began = time.monotonic()
    asked = [question.text for questions in benchmarks.load(run.recipe).values() for question in questions]
    tokenizer = _tokenizer(_folder(run.recipe), run.recipe)
    prepare(run.recipe, run.folder, tokenizer, asked, mark)
    run.record(data={"made_from": mark, **data_record(run), "seconds": round(time.monotonic() - began, 1)})


def _stage(name: str) -> Callable[[Run], None]:
    # Each stage's libraries are heavy, and none needs all of them.
    if name == "check":
        return _check
    if name == "prepare":
        return _prepare
    if name == "finetune":
        from train.finetune import finetune

        return finetune
    if name == "merge":
        from train.merge import merge

        return merge
    if name == "evaluate":
        from train.evaluate import evaluate

        return evaluate
    if name == "gguf":
        from train.gguf import gguf

        return gguf
    from train.card import write

    return write


def _demo(options: argparse.Namespace) -> int:
    import json

    from train.demo import FOLDER, Plan, build
    from train.demo_check import NEEDED, check, passed, write_card
    from train.sample import SampleError

    folder = options.out or FOLDER
    try:
        if options.check:
            if not (folder / "model.safetensors").is_file():
                raise SampleError(f"{folder} holds no model; make one with python -m train demo --out {folder}.")
            scores = check(folder)
            write_card(folder, scores)
        else:
            scores = build(folder, Plan(seed=options.seed))
    except SampleError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(scores, indent=2, ensure_ascii=False))
    if not passed(scores):
        needed = ", ".join(f"{name} {share:.0%}" for name, share in NEEDED.items())
        print(f"The scores are below what is needed: {needed}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
