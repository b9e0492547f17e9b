"""A job on the local Hub: what it is given, what it runs, how it is followed, and what is refused before it costs."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.hub.conftest import TERMS
from tests.hub.jobs import Jobs
from tests.hub.server import OWNER, READER
from train.__main__ import main

ROOT = Path(__file__).parent.parent.parent
CODE = "owner/result-code"


@pytest.fixture(scope="module")
def jobs(the_hub, tmp_path_factory):
    the_hub.repositories.add("owner/public")
    return Jobs(the_hub, tmp_path_factory.mktemp("jobs"))


@pytest.fixture(autouse=True)
def project(here, jobs, monkeypatch):
    """The project's folder, where nobody waits."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.chdir(ROOT)
    jobs.fails = "nothing"


def remote(*options, repo="owner/result", flavor="a10g-small", recipe="demo"):
    return main(["remote", "--flavor", flavor, "--repo", repo, "--recipe", recipe, *options])


def started(jobs):
    return list(jobs.known.values())


def test_a_job_runs_the_recipe_from_this_tree_and_publishes(the_hub, jobs, capsys):
    assert remote("--learning-rate", "1e-3") == 0
    said, job = capsys.readouterr().out, started(jobs)[-1]
    assert [line for line in said.splitlines() if line.startswith(("pip", "python"))] == [
        "pip install --quiet -r requirements-train.txt",
        "python -m train all --recipe recipe.yaml in work as hf_…",
        "python -m train publish --recipe recipe.yaml --terms terms.txt --repo owner/result in work as hf_…",
    ]
    assert "Machine a10g-small, $0.0167 a minute" in said
    assert "COMPLETED" in said
    assert job.spec["flavor"] == "a10g-small"
    assert job.spec["timeoutSeconds"] == 12 * 3600
    recipe = yaml.safe_load((job.folder / "recipe.yaml").read_text())
    assert (recipe["name"], recipe["learning_rate"]) == ("demo", 1e-3)
    assert (job.folder / "terms.txt").read_bytes() == (ROOT / "LICENSE").read_bytes()  # the embedded model's is ours
    assert the_hub.repositories.get(CODE).private
    assert the_hub.repositories.get("owner/result").private
    assert job.spec["volumes"][0]["revision"] == the_hub.repositories.get(CODE).head


def test_what_was_sent_starts_by_itself(jobs):
    """That it is the whole of `train` and `space` is held against git in test_deploy.py."""
    assert remote() == 0
    folder = started(jobs)[-1].folder
    command = [sys.executable, "-m", "train", "all", "--recipe", "recipe.yaml", "--help"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (folder / "tests").exists()


def test_a_token_travels_as_a_secret_only(the_hub, jobs, capsys):
    assert remote() == 0
    said, spec = "".join(capsys.readouterr()), started(jobs)[-1].spec
    assert spec["secrets"] == {"HF_TOKEN": OWNER}
    assert OWNER not in str({key: value for key, value in spec.items() if key != "secrets"})
    assert OWNER not in said
    assert not any(OWNER.encode() in body for body in the_hub.repositories.get(CODE).files().values())
    sent = [each for each in the_hub.requests if OWNER.encode() in each.body]
    assert [each.line for each in sent] == ["POST /api/jobs/owner"]


def test_unchanged_the_code_is_not_sent_again(the_hub):
    assert remote() == 0
    before = the_hub.repositories.get(CODE).head
    assert remote() == 0
    assert the_hub.repositories.get(CODE).head == before


def test_the_exit_status_is_the_jobs(jobs, capsys):
    jobs.fails = "train all"
    assert remote() == 3
    said = capsys.readouterr().out
    assert "it went wrong" in said
    assert "train publish" not in said
    assert "ERROR: Job failed with exit code: 3" in said


def test_interrupted_it_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("huggingface_hub.HfApi.fetch_job_logs", interrupted)
    assert remote() == 130
    said = capsys.readouterr().out
    assert "the job goes on" in said
    assert "hf jobs logs --follow owner/job" in said
    assert "hf jobs cancel owner/job" in said


def test_a_log_that_breaks_off_does_not_look_like_the_end(the_hub, jobs, capsys):
    before = len(jobs.known)
    the_hub.fault(r"GET /api/jobs/owner/job\d+", "lose")  # and what it is at cannot be seen either
    assert remote() == 2
    assert "The job's log broke off" in (error := capsys.readouterr().err)
    assert "but the job goes on" in error
    assert len(jobs.known) == before + 1


@pytest.mark.parametrize(
    ("options", "token", "sentence"),
    [
        ({"flavor": "a10g-tiny"}, OWNER, "There is no flavor 'a10g-tiny'; choose one of cpu-basic, a10g-small"),
        ({"flavor": "a10g-largex2"}, OWNER, "a10g-largex2 has 2 GPUs, of which a job uses one"),
        ({"flavor": "h200"}, OWNER, "The Hub refuses --flavor h200 (Pre-paid credit balance is insufficient)"),
        ({"repo": "someone/else"}, OWNER, "HF_TOKEN does not have this right on someone/else"),
        ({}, READER, "HF_TOKEN does not have this right on owner/result"),
        ({}, "hf_wrong", "The Hub refused HF_TOKEN (status 401)"),
        ({}, "", "HF_TOKEN is not set"),
        ({"repo": "result"}, OWNER, "--repo is 'result' but must be of the form OWNER/NAME"),
        ({"repo": "owner/public"}, OWNER, "owner/public is public or holds an adapter"),
        ({"recipe": "main"}, OWNER, "There is no model google/gemma-3-1b-it on the Hub"),
    ],
)
def test_what_is_refused_is_refused_before_a_job_starts(jobs, monkeypatch, capsys, options, token, sentence):
    monkeypatch.setenv("HF_TOKEN", token)
    before = len(jobs.known)
    assert remote(**options) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert len(jobs.known) == before


def test_what_only_this_machine_has_is_not_named_to_a_job(jobs, tmp_path, capsys):
    (tmp_path / "mine.jsonl").write_text("{}\n")
    assert remote("--data", str(tmp_path / "mine.jsonl")) == 2
    assert "mine.jsonl is on this machine only; push it to the Hub" in capsys.readouterr().err


def test_the_terms_of_the_base_go_along_or_nothing_starts(the_hub, jobs, tmp_path, capsys):
    the_hub.repositories.add("owner/bare", {"README.md": b"---\nlicense: gemma\n---\n"})
    assert remote("--base", "owner/bare") == 2
    assert "carries no copy of its licence" in capsys.readouterr().err
    (tmp_path / "terms").write_text(TERMS)
    for base, more in (("owner/bare", ["--terms", str(tmp_path / "terms")]), ("google/gemma", [])):
        assert remote("--base", base, *more) == 0
        assert (started(jobs)[-1].folder / "terms.txt").read_text() == TERMS


def test_a_code_repository_that_others_may_read_or_that_holds_something_else_is_left_alone(the_hub, capsys):
    the_hub.repositories.add("owner/shown-code", {"recipe.yaml": b""})
    assert remote(repo="owner/shown") == 2
    assert "owner/shown-code is public" in capsys.readouterr().err
    the_hub.repositories.add("owner/other-code", {"model.safetensors": b""}, private=True)
    assert remote(repo="owner/other") == 2
    assert "owner/other-code exists and holds something else" in capsys.readouterr().err
