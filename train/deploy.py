"""A live Space from this tree.

    python -m train deploy --space OWNER/NAME --model OWNER/NAME[@revision] [--hardware zero-a10g] [--public] [--dry-run]

Looks at what is there, says what differs, does that and nothing else, and waits until the Space answers with the model
that was asked for. Interrupted anywhere and run again it finishes; run once more it only checks.

The model's revision is pinned to its commit: the Space serves what was deployed until the next deployment.

A private or gated model needs a token inside the Space, where everybody who may write to the Space can read it out. So it
is never the deployer's own: it comes from SPACE_TOKEN, set for this alone, and is refused where it may do more than read.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from typing import TYPE_CHECKING, Any

from train import hub
from train.errors import TrainError
from train.tree import travelling

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import SpaceInfo

TRAVELS = ("app.py", "space", "requirements.txt", "README.md", "LICENSE")
GIT_ATTRIBUTES = ".gitattributes"
"""The Hub's own file in every repository, which says what is stored as LFS; it stays."""
MARK = "space/settings.py"
"""The file that tells a Space of ours, which may be overwritten, from anybody else's."""

PATIENCE = 45 * 60.0
"""Seconds until a Space must answer: its start may take the 30 minutes of README's front matter, its build comes before."""
PAUSE = 5.0
"""Seconds between two looks at it."""
LINES = 30
"""Lines of a log that are shown."""

_RESTARTED = ("PAUSED", "STOPPED", "BUILD_ERROR", "CONFIG_ERROR", "RUNTIME_ERROR")
_ENDED = (*_RESTARTED, "DELETING")


@dataclass(frozen=True)
class Model:
    """What the Space serves: a repository, its commit, and whether it takes a token to read it."""

    name: str
    commit: str
    closed: bool


@dataclass(frozen=True)
class Plan:
    """What lies between a Space and what it should be."""

    space: str
    exists: bool
    files: Mapping[str, bytes] = field(repr=False)
    changed: tuple[str, ...]
    """Of the files those to send."""
    removed: tuple[str, ...]
    """What lies there besides them."""
    variables: Mapping[str, str]
    """To set."""
    secret: str = field(repr=False)
    """To set as HF_TOKEN; empty: none is needed, or it is there."""
    hardware: str
    """To ask for; empty: it has it."""
    visibility: str
    """`public` or `private`, where that is to be chosen; empty: as it is."""
    restart: str
    """The stage it is to be started again from; empty where it runs, or starts by itself."""

    def __str__(self) -> str:
        """A line for each file that belongs there and for each step; of a secret its name."""
        return "\n".join(f"deploy: {what:10}{detail}" for what, detail in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        if not self.exists:
            yield "create", f"the {self.visibility} Space {self.space}"
        elif self.visibility:
            yield "make", self.visibility
        for path, content in self.files.items():
            yield "send" if path in self.changed else "keep", f"{path}  {len(content):,} bytes"
        yield from (("remove", path) for path in self.removed)
        yield from (("variable", f"{key}={value}") for key, value in self.variables.items())
        if self.secret:
            yield "secret", "HF_TOKEN, from SPACE_TOKEN"
        if self.hardware:
            yield "hardware", self.hardware
        if self.restart:
            yield "restart", f"from {self.restart}"


def deploy(space: str, model: str, hardware: str, public: bool, dry_run: bool) -> None:
    """Raises `TrainError` for what the Hub refuses, and where the Space does not come to answer."""
    from huggingface_hub import HfApi

    api = HfApi()
    hub.named("--space", space)
    chosen = hub.patiently(lambda: _model(api, model), hub.named("--model", model.partition("@")[0]))
    token = os.environ.get("SPACE_TOKEN", "") if chosen.closed else ""
    if token:
        hub.patiently(lambda: _only_reads(token, chosen), chosen.name)

    def plan() -> Plan:
        return _plan(api, space, chosen, token, hardware, public)

    print(hub.patiently(plan, space, "space"))
    if dry_run:
        print("deploy: nothing was sent.")
        return
    head = hub.patiently(lambda: _carry_out(api, plan, hardware), space, "space")
    address = hub.patiently(lambda: _answering(api, space, head, chosen), space, "space")
    print(f"deploy: {space} answers at {address} with {chosen.name} at commit {chosen.commit}.")


# ---- what is there, and what should be ----------------------------------------------------------------------------


def _model(api: HfApi, wanted: str) -> Model:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    name, _, revision = wanted.partition("@")
    try:
        info = api.model_info(name, revision=revision or None)
    except RevisionNotFoundError as error:
        raise TrainError(f"The model {name} has no revision {revision!r}; check --model.") from error
    except RepositoryNotFoundError as error:
        raise TrainError(
            f"There is no model {name} on the Hub, or HF_TOKEN may not read it; check --model and HF_TOKEN."
        ) from error
    return Model(name, str(info.sha), bool(info.private or info.gated))


def _only_reads(token: str, model: Model) -> None:
    """Raises `TrainError` where SPACE_TOKEN may do more than read, or may not read the model."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    advice = f"make one that may only read {model.name}, and set SPACE_TOKEN to it"
    try:
        access = HfApi(token=token).whoami()["auth"]["accessToken"]
        fine = access.get("fineGrained", {})
        grants = [
            *fine.get("global", []),
            *(grant for scope in fine.get("scoped", []) for grant in scope["permissions"]),
        ]
        if access["role"] not in ("read", "fineGrained") or not all(grant.endswith(".read") for grant in grants):
            raise TrainError(f"SPACE_TOKEN may do more than read, which is too much for a Space; {advice}.")
        HfApi(token=token).auth_check(model.name)
    except HfHubHTTPError as error:
        raise TrainError(f"SPACE_TOKEN is wrong or may not read {model.name}; {advice}.") from error


def _plan(api: HfApi, space: str, model: Model, token: str, hardware: str, public: bool) -> Plan:
    files = _files(api, space, model)
    variables = {"MODEL_ID": model.name, "MODEL_REVISION": model.commit}
    info = _existing(api, space)
    if info is None:
        _need_token(model, token)
        visibility = "public" if public else "private"
        return Plan(space, False, files, (*files,), (), variables, token, hardware, visibility, "")
    there = hub.listing(space, str(info.sha), "space")
    if info.sdk != "gradio" or not (MARK in there or set(there) <= {"README.md", GIT_ATTRIBUTES}):
        raise TrainError(f"The Space {space} exists and holds something else; choose another name, or delete it first.")
    known = {key: variable.value for key, variable in api.get_space_variables(space).items()}
    secret = api.get_space_secrets(space).get("HF_TOKEN")
    if secret is None:
        _need_token(model, token)
    runtime = api.get_space_runtime(space)
    return Plan(
        space,
        True,
        files,
        tuple(path for path, content in files.items() if not hub.Digest.of(content).matches(there.get(path))),
        tuple(path for path in there if path not in files and path != GIT_ATTRIBUTES),
        {key: value for key, value in variables.items() if known.get(key) != value},
        "" if secret and secret.description == _mark(token) else token,
        "" if hardware == (runtime.requested_hardware or runtime.hardware) else hardware,
        "public" if public and info.private else "",
        runtime.stage if runtime.stage in _RESTARTED else "",
    )


def _existing(api: HfApi, space: str) -> SpaceInfo | None:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.space_info(space)
    except RepositoryNotFoundError:
        return None


def _need_token(model: Model, token: str) -> None:
    if model.closed and not token:
        raise TrainError(
            f"{model.name} is private or gated, so the Space needs a token for it; make one that may only read it, and set "
            "SPACE_TOKEN to it (your own HF_TOKEN is never given to a Space)."
        )


def _mark(token: str) -> str:
    """A secret's description. Its value cannot be read back, and this tells whether it is another; it gives none of it away."""
    return f"fingerprint {hashlib.sha256(token.encode()).hexdigest()[:8]}"


def _files(api: HfApi, space: str, model: Model) -> dict[str, bytes]:
    """What belongs into the Space: this tree, and in README's front matter what only a deployment knows.

    That is the model that is served, and the picture's address, which Spaces wants whole.
    """
    from huggingface_hub import SpaceCard

    files = travelling(*TRAVELS)
    card = SpaceCard(files["README.md"].decode())
    card.data["thumbnail"] = f"{api.endpoint}/spaces/{space}/resolve/main/{card.data['thumbnail']}"
    card.data["models"] = list(dict.fromkeys([model.name, *card.data["models"]]))
    return files | {"README.md": str(card).encode()}


# ---- doing it -----------------------------------------------------------------------------------------------------


def _carry_out(api: HfApi, planned: Callable[[], Plan], hardware: str) -> str:
    """What is still to do of the plan; returns the commit that the Space is at. The files come last: they start the build."""
    plan = planned()
    with hub.machine(f"--hardware {hardware}"):
        if not plan.exists:
            # With its hardware, as a free account may create a Space on ZeroGPU and none on the default CPU.
            private = plan.visibility == "private"
            api.create_repo(plan.space, repo_type="space", space_sdk="gradio", space_hardware=hardware, private=private)  # type: ignore[arg-type]
            plan = planned()
        for key, value in plan.variables.items():
            api.add_space_variable(plan.space, key, value)
        if plan.secret:
            api.add_space_secret(plan.space, "HF_TOKEN", plan.secret, description=_mark(plan.secret))
        if plan.hardware:
            api.request_space_hardware(plan.space, plan.hardware)  # type: ignore[arg-type]
    if plan.visibility:
        api.update_repo_settings(plan.space, private=False, repo_type="space")
    if plan.restart and not plan.changed and not plan.removed:
        api.restart_space(plan.space)
    gone = [escape(path) for path in plan.removed]
    return hub.land(plan.space, plan.files, "Deploy this tree", gone, "space")


def _answering(api: HfApi, space: str, head: str, model: Model) -> str:
    """The address, once the commit `head` runs there and answers with the model. Raises `TrainError` where that fails."""
    info = api.space_info(space)
    deadline, said = time.monotonic() + PATIENCE, ""
    while True:
        runtime = api.get_space_runtime(space)
        stage = str(runtime.stage)
        # What was there before still answers while this commit is built.
        ours = runtime.raw.get("sha") in (None, head)
        if ours and stage in _ENDED:
            build = stage in ("BUILD_ERROR", "CONFIG_ERROR")
            raise TrainError(f"{space} ended in {stage}; the end of its log:\n{_log(api, space, build)}")
        health = _health(info) if ours and stage in ("RUNNING", "SLEEPING") else {}  # being asked wakes it
        if (health.get("model"), health.get("revision")) != (model.name, model.commit):
            health = {}
        if health.get("state") == "ready":
            return str(info.host)
        if health.get("state") == "failed":
            raise TrainError(f"{space} has no model: {health['reason']} The end of its log:\n{_log(api, space, False)}")
        if stage != said:
            print(f"deploy: {stage}", flush=True)
            said = stage
        if time.monotonic() > deadline:
            raise TrainError(
                f"{space} is {stage} and does not answer after {PATIENCE / 60:.0f} minutes; see "
                f"{api.endpoint}/spaces/{space}, and run the command again to go on waiting."
            )
        time.sleep(PAUSE)


def _health(info: SpaceInfo) -> dict[str, Any]:
    """What /health says; empty where nothing of ours answers yet."""
    from httpx2 import HTTPError, get
    from huggingface_hub import get_token

    # Spaces lets only those who may read a private Space through to it.
    headers = {"Authorization": f"Bearer {get_token()}"} if info.private else {}
    try:
        said = get(f"{info.host}/health", headers=headers, timeout=10).json()
    except (HTTPError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _log(api: HfApi, space: str, build: bool) -> str:
    """The end of the build log, or of what the app printed, without access tokens."""
    from huggingface_hub.errors import HfHubHTTPError

    lines: list[str] = []
    with suppress(HfHubHTTPError):  # a log that cannot be had must not hide why it was wanted
        lines = "".join(api.fetch_space_logs(space, build=build)).splitlines()[-LINES:]
    return re.sub(r"hf_\w{8,}", "hf_…", "\n".join(lines)) or "(it is empty)"
