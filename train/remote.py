"""The pipeline on a rented machine: Hugging Face Jobs.

    python -m train remote --flavor a10g-small --repo OWNER/NAME [--recipe NAME|FILE.yaml] [--timeout 12h]

The code and the recipe go as one commit into a private repository, OWNER/NAME-code, which the job sees as a folder at that
commit: what runs is what is here, and stays to be looked at beside the model that came of it. The result is published from
inside the job; what was not published ends with it. HF_TOKEN travels as a secret, which the Hub encrypts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from train import hub
from train.card import licence
from train.errors import TrainError
from train.licence import bundle
from train.recipe import Recipe
from train.tree import FACTORY_KINDS, travelling

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

TRAVELS = ("train", "space", "requirements.txt", "requirements-train.txt", "LICENSE")
IMAGE = "python:3.12"
"""The job's container: Python as ZeroGPU has it, and a compiler, which Triton needs."""
SCRIPT = """\
cp -r /code /work
cd /work
pip install --quiet -r requirements-train.txt
python -m train all --recipe recipe.yaml
python -m train publish --recipe recipe.yaml --terms terms.txt "$@"
"""


def remote(recipe: Recipe, repo: str, flavor: str, timeout: str, terms: Path | None) -> int:
    """Runs and follows a job; returns its exit status, or 130 where following was interrupted.

    Everything that can be refused is asked for before the job starts, and so before it costs: the right to write to `repo`,
    and the licence (`terms`: a copy of it, where the base carries none) without which nothing may be published.
    Raises `TrainError`.
    """
    from huggingface_hub import HfApi, Volume, get_token

    if not get_token():
        raise TrainError("HF_TOKEN is not set; a job needs a token that may start jobs and write to the Hub.")
    api = HfApi()
    hub.named("--repo", repo)
    files = _files(recipe, terms)
    print(f"remote: {hub.patiently(lambda: _price(api, flavor), flavor)}")
    owner = hub.patiently(lambda: _writer(api, repo), repo)
    code = f"{owner}/{repo.partition('/')[2]}-code"
    head = hub.patiently(lambda: _send(api, code, files), code)
    print(f"remote: {len(files)} files are in {code} at commit {head}")
    with hub.sentences(repo), hub.machine(f"--flavor {flavor}"):  # not patiently: two jobs would cost twice
        job = api.run_job(
            image=IMAGE,
            command=["bash", "-ec", SCRIPT, "train", "--repo", repo],
            secrets={"HF_TOKEN": get_token()},
            volumes=[Volume(type="model", source=code, revision=head, mount_path="/code")],
            flavor=flavor,
            timeout=timeout,
            namespace=owner,
        )
    print(f"remote: {job.url}", flush=True)
    return _follow(api, job)


def _writer(api: HfApi, repo: str) -> str:
    """The account that HF_TOKEN is of, which may publish to `repo`; that is made, private, where it is missing."""
    api.create_repo(repo, private=True, exist_ok=True)
    api.auth_check(repo, write=True)
    if not api.repo_info(repo).private or api.file_exists(repo, "adapter_config.json"):
        raise TrainError(
            f"{repo} is public or holds an adapter; name another for the result, which is a whole model and private at first."
        )
    return str(api.whoami()["name"])


def _files(recipe: Recipe, terms: Path | None) -> dict[str, bytes]:
    """What the job runs. Raises `TrainError` where the recipe names files of this machine that do not travel."""
    import yaml

    files = travelling(*TRAVELS, kinds=FACTORY_KINDS)
    for name in (recipe.base, *recipe.data, *(benchmark.partition("=")[2] for benchmark in recipe.benchmarks)):
        if name and Path(name).exists() and not any(Path(path).is_relative_to(name) for path in files):
            raise TrainError(
                f"{name} is on this machine only; push it to the Hub (private, if it must be) and name that."
            )
    return files | {
        "recipe.yaml": yaml.safe_dump(recipe.as_dict(), sort_keys=False, allow_unicode=True).encode(),
        "terms.txt": bundle(recipe, recipe.base, licence(recipe, _card_of_base(recipe)), terms, [])["LICENSE"],
    }


def _card_of_base(recipe: Recipe) -> str:
    """Empty where it has none."""
    file, revision = Path(recipe.base) / "README.md", recipe.base_revision or "main"
    if Path(recipe.base).is_dir():
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    if file.name not in hub.patiently(lambda: hub.listing(recipe.base, revision), recipe.base):
        return ""
    return hub.fetch(recipe.base, file.name, revision).decode()


def _price(api: HfApi, flavor: str) -> str:
    """What the machine is and costs. Raises `TrainError` where there is none of that name, or it has several GPUs."""
    known = {machine.name: machine for machine in api.list_jobs_hardware()}
    if flavor not in known:
        raise TrainError(f"There is no flavor {flavor!r}; choose one of {', '.join(known)}.")
    machine = known[flavor]
    if machine.accelerator and machine.accelerator.quantity != "1":
        raise TrainError(
            f"{flavor} has {machine.accelerator.quantity} GPUs, of which a job uses one; choose a smaller one."
        )
    return f"{machine.pretty_name}, ${machine.unit_cost_usd:.4f} a {machine.unit_label}"


def _send(api: HfApi, code: str, files: dict[str, bytes]) -> str:
    """The commit of the private repository `code` that holds these files."""
    api.create_repo(code, private=True, exist_ok=True)
    if not api.repo_info(code).private:
        raise TrainError(f"{code} is public, and a recipe may not be meant to be; make it private, or delete it.")
    there = hub.listing(code, "main")
    if "recipe.yaml" not in there and set(there) - {".gitattributes"}:
        raise TrainError(f"{code} exists and holds something else; rename it, or choose another name with --repo.")
    return hub.land(code, files, "The code and the recipe of a job", [*(f"{name}*" for name in TRAVELS)])


def _follow(api: HfApi, job: JobInfo) -> int:
    from httpx2 import HTTPError

    name = f"{job.owner.name}/{job.id}"
    advice = f"follow it with: hf jobs logs --follow {name}, or end it with: hf jobs cancel {name}"
    try:
        for line in api.fetch_job_logs(job_id=job.id, namespace=job.owner.name, follow=True):
            print(line, flush=True)
        status = api.wait_for_job(job.id, namespace=job.owner.name).status
    except KeyboardInterrupt:
        print(f"\nremote: the job goes on; {advice}")
        return 130
    except HTTPError as error:
        raise TrainError(f"The job's log broke off ({error}), but the job goes on; {advice}.") from error
    print(f"remote: {status.stage}{f': {status.message}' if status.message else ''}")
    code = re.search(r"exit code:? *(\d+)", status.message or "", re.IGNORECASE)
    return 0 if status.stage == "COMPLETED" else int(code[1]) if code else 1
