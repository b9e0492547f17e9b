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
    from train.recipe import Recipe
    from train.run import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one stage. Returns the exit status: 0, 1 for a score below what is needed, 2 for a mistake of the user's."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except TrainError as error:
        print(error, file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The stages and their options; each stage's `run` does it."""
    whole = argparse.ArgumentParser(prog="python -m train", description="The factory of the medical chat's models.")
    stages = whole.add_subparsers(dest="stage", required=True, metavar="stage")
    demo = stages.add_parser(
        "demo",
        help="build the embedded model, or score it",
        description="Build the embedded model from train/sample.jsonl.",
    )
    demo.add_argument("--check", action="store_true", help="score the folder instead of building it")
    demo.add_argument("--out", type=Path, metavar="DIR", help="the model's folder (default: space/demo)")
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the build (default: %(default)s)")
    demo.set_defaults(run=_demo)
    guard = stages.add_parser(
        "guard",
        help="train the guard's classifier",
        description="Train the guard's classifier from its labelled messages.",
    )
    guard.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the training (default: %(default)s)")
    guard.set_defaults(run=_guard)
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
    _add_publish(stages)
    _add_deploy(stages)
    _add_remote(stages)
    return whole


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


def _add_publish(stages: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    publish = stages.add_parser(
        "publish", help="publish a finished run on the Hub", description="Publish a finished run on the Hub."
    )
    publish.add_argument("--repo", required=True, metavar="OWNER/NAME", help="the model repository; made where missing")
    publish.add_argument("--recipe", default="", metavar="NAME|FILE.yaml", help="the recipe of the run")
    publish.add_argument(
        "--run", type=Path, metavar="DIR", help="the run directory (default: runs/<name>)", dest="folder"
    )
    publish.add_argument("--public", action="store_true", help="for everybody to see (default: private)")
    publish.add_argument("--adapter", action="store_true", help="the adapter alone, for those who have the base")
    publish.add_argument(
        "--terms", type=Path, metavar="FILE", help="a copy of the base's licence, where it carries none"
    )
    publish.set_defaults(run=_publish)


def _add_deploy(stages: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    help = "make a Space of this tree that serves a model of the Hub, and wait until it answers"
    deploy = stages.add_parser("deploy", help=help, description=f"{help[0].upper()}{help[1:]}.")
    deploy.add_argument("--space", required=True, metavar="OWNER/NAME", help="the Space; made where missing")
    deploy.add_argument(
        "--model",
        required=True,
        metavar="OWNER/NAME[@REVISION]",
        help="what it serves; for a private or gated model SPACE_TOKEN must hold a token that may only read it",
    )
    deploy.add_argument(
        "--hardware",
        default="zero-a10g",
        metavar="NAME",
        help="what it runs on, by the Hub's name (default: %(default)s)",
    )
    deploy.add_argument("--public", action="store_true", help="for everybody to see (default: private, or as it is)")
    deploy.add_argument("--dry-run", action="store_true", help="say what would be sent and set, and send nothing")
    deploy.set_defaults(run=_deploy)


def _deploy(options: argparse.Namespace) -> int:
    from train.deploy import deploy

    deploy(options.space, options.model, options.hardware, options.public, options.dry_run)
    return 0


def _add_remote(stages: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    help = "run all stages on a machine rented from Hugging Face Jobs, and publish the result"
    remote = stages.add_parser("remote", help=help, description=f"{help[0].upper()}{help[1:]}.")
    remote.add_argument("--flavor", required=True, metavar="NAME", help="the machine, e.g. a10g-small")
    remote.add_argument("--repo", required=True, metavar="OWNER/NAME", help="the private repository of the result")
    remote.add_argument("--recipe", default="", metavar="NAME|FILE.yaml", help="a recipe of train/recipes, or a file")
    remote.add_argument(
        "--terms", type=Path, metavar="FILE", help="a copy of the base's licence, where it carries none"
    )
    remote.add_argument(
        "--timeout", default="12h", metavar="TIME", help="when the job is ended at the latest (default: %(default)s)"
    )
    _add_overrides(remote)
    remote.set_defaults(run=_remote)


def _remote(options: argparse.Namespace) -> int:
    from train.remote import remote

    return remote(_recipe(options), options.repo, options.flavor, options.timeout, options.terms)


def _publish(options: argparse.Namespace) -> int:
    from train.publish import publish
    from train.recipe import read
    from train.run import RUNS, Run

    folder = options.folder or RUNS / read(options.recipe).name
    if not (folder / "recipe.yaml").is_file():
        raise TrainError(f"There is no run in {folder}; make one with python -m train all, or name another with --run.")
    run = Run(read(str(folder / "recipe.yaml")), folder)
    publish(run, options.repo, public=options.public, adapter=options.adapter, terms=options.terms)
    return 0


def _run(options: argparse.Namespace) -> int:
    if getattr(options, "model", None):
        from train.gguf import about_folder, export

        export(options.model, options.model / "model-q4_0.gguf", "q4_0", about_folder(options.model))
        return 0
    from train.record import PARTS, note
    from train.run import RUNS, alone, start

    if options.stage != "finetune" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise TrainError(f"Only finetune runs in several processes; run {options.stage} without accelerate launch.")
    recipe = _recipe(options)
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


def _recipe(options: argparse.Namespace) -> Recipe:
    """The recipe that was named, with the options that were given instead of its own."""
    from train.recipe import read

    given = {name.removeprefix("recipe_"): value for name, value in vars(options).items() if name.startswith("recipe_")}
    return read(options.recipe, {name: value for name, value in given.items() if value is not None})


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


def _guard(options: argparse.Namespace) -> int:
    import json

    from space.guard.classifier import FILE
    from train.guard import build

    print(json.dumps(build(FILE, options.seed), indent=2))
    return 0


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
