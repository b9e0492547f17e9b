"""A finished run to the Hub, as a model repository of its own.

    python -m train publish --recipe NAME --repo OWNER/NAME

What travels is named below, and nothing else does. It is private until all of it is there, verified, tagged, and `--public` was
asked for. The run directory is only read. Every step looks first whether it is done: what was interrupted is finished by the
same command, and what has not changed is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import RepositoryNotFoundError

from space.engine.digest import Digest
from train import card, hub
from train.errors import TrainError
from train.gguf import KINDS
from train.licence import bundle
from train.run import MADE_FROM, Run, fingerprint

_WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")
_BESIDE = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "chat_template.jinja",
)
_ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
_RECORDS = ("metrics.json", "loss.png")
_WORDS = ("README.md", "LICENSE", "NOTICE")


def publish(
    run: Run, repository: str, *, public: bool = False, adapter: bool = False, terms: Path | None = None
) -> None:
    """Publish the merged model with its GGUF files, or the adapter alone. `terms` is a copy of the base's licence, where the
    base carries none. Raises `TrainError`, before anything is sent where the run is not finished or its licence cannot be
    kept."""
    if not get_token():
        raise TrainError(
            "HF_TOKEN is not set; publishing needs a token with write access: make one on the Hub's settings page."
        )
    _check(run)
    files = _adapter(run, repository, terms) if adapter else _model(run, terms)
    ours = [*(_ADAPTER if adapter else (*_WEIGHTS, *_BESIDE, "model-*.gguf")), *_RECORDS, *_WORDS]
    tag = f"{re.sub(r'[^A-Za-z0-9.-]+', '-', run.recipe.name).strip('-.')}-{_mark(files)[:8]}"
    changed = hub.patiently(lambda: _send(repository, files, ours, tag, public, adapter), repository)
    where = f"{constants.ENDPOINT}/{repository}"
    print(f"publish: {where} {'now holds this run' if changed else 'is up to date'}: {len(files)} files, tag {tag}.")


def _send(
    repository: str, files: Mapping[str, Path | bytes], ours: Sequence[str], tag: str, public: bool, adapter: bool
) -> bool:
    """Whether there was anything to do."""
    api = HfApi()
    before = _opened(api, repository, public)
    if api.file_exists(repository, "config.json" if adapter else "adapter_config.json"):
        held, given = ("a whole model", "adapter") if adapter else ("an adapter", "model")
        raise TrainError(f"{repository} holds {held}; give the {given} a repository of its own with --repo.")
    head = hub.land(repository, files, f"Publish {tag}", ours)
    tagged = any(known.name == tag for known in api.list_repo_refs(repository).tags)
    if not tagged:
        api.create_tag(repository, tag=tag, revision=head, exist_ok=True)
    private = bool(api.repo_info(repository).private)
    if public and private:
        api.update_repo_settings(repository, private=False)
    return head != before or not tagged or (public and private)


def _opened(api: HfApi, repository: str, public: bool) -> str:
    """The commit that `main` is at, of the repository as it was or newly made, private."""
    try:
        there = api.repo_info(repository)
    except RepositoryNotFoundError:
        api.create_repo(repository, private=True, exist_ok=True)
        return str(api.repo_info(repository).sha)
    if not there.private and not public:
        raise TrainError(
            f"{repository} is public; add --public to publish there, or name another repository with --repo."
        )
    return str(there.sha)


# ---- what travels ---------------------------------------------------------------------------------------------------


def _check(run: Run) -> None:
    """That each stage's output is whole and was made from what is there now. Raises `TrainError` with the stage to run again."""
    from train import evaluate, gguf, merge

    run.need(run.adapter / MADE_FROM, "finetune")
    mark = run.need(run.merged / MADE_FROM, "merge").read_text()
    card.records(run)
    for part, made_from, stage in (
        ("merge", merge.made_from, "merge"),
        ("evaluation", evaluate.made_from, "evaluate"),
        *([("gguf", gguf.made_from, "gguf")] if "gguf" in run.recorded() else []),
    ):
        if run.recorded(part).get("made_from") != made_from(run):
            raise _old(run, f"the {part} of metrics.json", stage)
    if mark != run.recorded("merge")["made_from"]:
        raise _old(run, "merged", "merge")
    readme = run.need(run.folder / "README.md", "card").read_text(encoding="utf-8")
    if readme != card.card(run.recipe, *card.records(run), _licence(run)):
        raise _old(run, "README.md", "card")


def _old(run: Run, what: str, stage: str) -> TrainError:
    return TrainError(
        f"In {run.folder} {what} is not of the weights and records there; make it again with: "
        f"python -m train {stage} --recipe {run.recipe_name} --run {run.folder}"
    )


def _licence(run: Run) -> str:
    stated = re.search("^license: (.+)$", (run.folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return stated[1] if stated else ""


def _model(run: Run, terms: Path | None) -> dict[str, Path | bytes]:
    """By their paths in the repository: the merged model, its GGUF files, card, records and licence."""
    weights = sorted(file for pattern in _WEIGHTS for file in run.merged.glob(pattern))
    files = [*weights, *(file for name in _BESIDE if (file := run.merged / name).is_file())]
    files += [run.need(run.folder / f"model-{kind}.gguf", "gguf") for kind in KINDS if "gguf" in run.recorded()]
    modified = [file.name for file in files if file.suffix in (".safetensors", ".gguf")]
    return {
        **{file.name: file for file in files},
        **_records(run),
        "README.md": run.folder / "README.md",
        **bundle(run.recipe, card.base_named(run.recipe), _licence(run), terms, modified),
    }


def _adapter(run: Run, repository: str, terms: Path | None) -> dict[str, Path | bytes]:
    """The same of the adapter alone, whose card is made here."""
    if run.recipe.base.startswith(("/", ".", "~")):
        raise TrainError(
            f"An adapter is of use only to those who have its base, and {run.recipe.base} is a folder of this machine; train "
            "it on a base of the Hub, or publish the merged model without --adapter."
        )
    text = card.adapter_card(run.recipe, *card.records(run), _licence(run), repository)
    return {
        **{name: run.adapter / name for name in _ADAPTER},
        **_records(run),
        "README.md": text.encode(),
        **bundle(run.recipe, card.base_named(run.recipe), _licence(run), terms, [_ADAPTER[0]]),
    }


def _records(run: Run) -> dict[str, Path | bytes]:
    return {name: run.need(run.folder / name, "finetune") for name in _RECORDS}


def _mark(files: Mapping[str, Path | bytes]) -> str:
    return fingerprint({path: Digest.of(content).sha256 for path, content in files.items()})
