"""A Space from this tree, by the unmodified client, on the local Hub: what travels, what is said, and that it answers."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from space.settings import DEMO_MODEL
from tests.hub.environment import environment
from tests.hub.server import OWNER, READER, STRANGER, Refusal
from tests.hub.spaces import Spaces
from train import deploy as stage
from train import remote, tree
from train.__main__ import main

ROOT = Path(__file__).parent.parent.parent
APP = """
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        health = {"state": "STATE", "model": os.environ["MODEL_ID"], "revision": os.environ["MODEL_REVISION"], "reason": "No room."}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(health).encode())
        print("asked with", self.headers["Authorization"], flush=True)

HTTPServer(("127.0.0.1", int(os.environ["GRADIO_SERVER_PORT"])), Handler).serve_forever()
"""
"""An app that starts in a moment and says that it is healthy."""


@pytest.fixture(scope="module")
def spaces(the_hub, tmp_path_factory):
    the_hub.repositories.add("owner/model")
    the_hub.repositories.add("owner/closed", private=True)
    spaces = Spaces(the_hub, tmp_path_factory.mktemp("spaces"))
    yield spaces
    spaces.close()


@pytest.fixture(autouse=True)
def deployer(here, spaces, monkeypatch):
    monkeypatch.delenv("SPACE_TOKEN", raising=False)
    monkeypatch.setattr(stage, "PAUSE", 0.05)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A tree of our shape, which builds and starts in a moment."""
    folder = tmp_path / "tree"
    (folder / "space" / "demo").mkdir(parents=True)
    (folder / "app.py").write_text(APP.replace("STATE", "ready"))
    (folder / "space" / "settings.py").write_text("")
    (folder / "space" / "demo" / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "requirements.txt").write_text("safetensors==0.8.0\n")
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    monkeypatch.setattr(tree, "ROOT", folder)
    return folder


def deployed(the_hub, space, *options, model="owner/model"):
    """The exit status of a deployment, and the requests it made."""
    before = len(the_hub.requests)
    status = main(["deploy", "--space", space, "--model", model, *options])
    return status, the_hub.requests[before:]


def changes(requests):
    return [request.line for request in requests if request.method not in ("GET", "HEAD")]


def said_of(kind, said):
    """The files of which a deployment says send, keep or remove."""
    return set(re.findall(rf"deploy: {kind} +(\S+)", said))


# ---- what travels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "kinds"), [(stage.TRAVELS, tree.KINDS), (remote.TRAVELS, tree.FACTORY_KINDS)], ids=["deploy", "remote"]
)
def test_what_travels_is_what_git_knows_of_it(names, kinds):
    """Nothing that lies about beside the sources, and nothing missing."""
    listed = subprocess.run(["git", "ls-files", "-z", *names], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert set(tree.travelling(*names, kinds=kinds)) == set(listed.stdout.split("\0")) - {""}


def test_dry_run_says_what_would_be_sent_and_sends_nothing(the_hub, small, capsys):
    status, requests = deployed(the_hub, "owner/dry", "--dry-run")
    said = capsys.readouterr().out
    assert status == 0
    assert changes(requests) == []
    files = {"app.py", "space/settings.py", "space/demo/model.safetensors", "requirements.txt", "README.md", "LICENSE"}
    assert said_of("send", said) == files
    assert "space/demo/model.safetensors  256 bytes" in said
    assert "MODEL_ID=owner/model" in said
    assert f"MODEL_REVISION={the_hub.repositories.get('owner/model').head}" in said
    assert "hardware  zero-a10g" in said
    assert "the private Space owner/dry" in said


def test_a_deployment_sends_that_in_one_commit_and_waits_for_its_answer(the_hub, spaces, small, capsys):
    status, requests = deployed(the_hub, "owner/first")
    said = capsys.readouterr().out
    repository, space = the_hub.repositories.get("owner/first", "space"), spaces["owner/first"]
    assert status == 0
    assert said_of("send", said) == set(repository.files()) - {stage.GIT_ATTRIBUTES}
    assert len([line for line in changes(requests) if "/commit/main" in line]) == 1
    assert repository.private
    assert space.hardware == "zero-a10g"
    assert {key: value["value"] for key, value in space.variables.items()} == {
        "MODEL_ID": "owner/model",
        "MODEL_REVISION": the_hub.repositories.get("owner/model").head,
    }
    assert f"asked with Bearer {OWNER}" in space.run_log  # as a private Space demands
    assert said.index("BUILDING") < said.index("APP_STARTING") < said.index(f"answers at {space.host}")
    for path, content in repository.files().items():
        if path not in ("README.md", stage.GIT_ATTRIBUTES):
            assert content == (small / path).read_bytes()

    # README says in its front matter what only the deployment knows, and is the same otherwise.
    from huggingface_hub import SpaceCard

    here, there = SpaceCard((small / "README.md").read_text()), SpaceCard(repository.files()["README.md"].decode())
    assert there.text == here.text
    assert there.data["thumbnail"] == f"{the_hub.endpoint}/spaces/owner/first/resolve/main/{here.data['thumbnail']}"
    assert there.data["models"] == ["owner/model", *here.data["models"]]
    unlike = {"thumbnail", "models"}
    assert {k: v for k, v in there.data.to_dict().items() if k not in unlike} == {
        k: v for k, v in here.data.to_dict().items() if k not in unlike
    }


def test_unchanged_it_only_looks(the_hub, spaces, small, capsys):
    assert deployed(the_hub, "owner/again")[0] == 0
    spaces["owner/again"].stage = "SLEEPING"  # as after 48 hours without visitors; it wakes when it is asked
    capsys.readouterr()
    status, requests = deployed(the_hub, "owner/again")
    said = capsys.readouterr().out
    assert status == 0
    assert changes(requests) == []
    assert not said_of("send", said)
    assert "answers at" in said


def test_what_changed_is_sent_and_what_is_gone_goes(the_hub, spaces, small, capsys):
    (small / "space" / "old.py").write_text("old = 1\n")
    assert deployed(the_hub, "owner/moving")[0] == 0
    (small / "space" / "old.py").unlink()
    (small / "space" / "new.py").write_text("new = 1\n")
    capsys.readouterr()
    model = the_hub.repositories.get("owner/model")
    model.tags["v2"] = model.commit(model.at("main").tree, "better", "next").oid
    status, requests = deployed(the_hub, "owner/moving", "--hardware", "t4-small", "--public", model="owner/model@v2")
    said, files = capsys.readouterr().out, the_hub.repositories.get("owner/moving", "space").files()
    assert status == 0
    assert (said_of("send", said), said_of("remove", said)) == ({"space/new.py"}, {"space/old.py"})
    assert "space/new.py" in files
    assert "space/old.py" not in files
    assert stage.GIT_ATTRIBUTES in files
    assert spaces["owner/moving"].hardware == "t4-small"
    assert spaces["owner/moving"].variables["MODEL_REVISION"]["value"] == model.tags["v2"]
    assert not the_hub.repositories.get("owner/moving", "space").private
    assert len([line for line in changes(requests) if "/commit/main" in line]) == 1


@pytest.mark.parametrize(
    "request_line", ["repos/create", "POST .*/variables", "/commit/upload", "/commit/main", "/runtime"]
)
def test_interrupted_it_finishes_the_next_time(the_hub, spaces, small, capsys, request_line):
    space = f"owner/cut{abs(hash(request_line))}"
    the_hub.fault(request_line, lambda done: Refusal(418).answer, times=1)  # done, and then cut off
    assert deployed(the_hub, space)[0] == 2
    assert "run the command again" in capsys.readouterr().err
    assert deployed(the_hub, space)[0] == 0
    repository = the_hub.repositories.get(space, "space")
    assert [commit.message for commit in repository.history()] == ["Deploy this tree", "initial commit"]
    assert list(repository.branches) == ["main"]


def test_a_connection_that_breaks_once_is_no_matter(the_hub, spaces, small, capsys):
    the_hub.fault("/commit/main", "lose", times=1)
    assert deployed(the_hub, "owner/flaky")[0] == 0
    assert "rying again in 1 s" in capsys.readouterr().out
    assert len(the_hub.repositories.get("owner/flaky", "space").history()) == 2


# ---- secrets --------------------------------------------------------------------------------------------------------

CANARY = "hf_" + "Canary" * 6


def test_tokens_that_lie_about_do_not_travel(the_hub, small, monkeypatch, capsys):
    hiding = (
        ".env",
        "space/.env",
        "space/__pycache__/a.pyc",
        "space/demo/training_args.bin",
        "space/token",
        ".git/config",
    )
    for name in hiding:
        (small / name).parent.mkdir(exist_ok=True)
        (small / name).write_text(CANARY)
    the_hub.accounts[CANARY] = the_hub.accounts[OWNER]
    monkeypatch.setenv("HF_TOKEN", CANARY)
    status, requests = deployed(the_hub, "owner/canary")
    assert status == 0
    assert all(CANARY.encode() not in request.body for request in requests)
    assert not any(CANARY in request.path or CANARY in str(request.query) for request in requests)
    assert not set(hiding) & set(the_hub.repositories.get("owner/canary", "space").files())
    assert CANARY not in "".join(capsys.readouterr())


def test_a_token_in_what_travels_stops_it(the_hub, small, capsys):
    (small / "space" / "notes.json").write_text(f'{{"token": "{CANARY}"}}')
    status, requests = deployed(the_hub, "owner/leak")
    assert status == 2
    assert changes(requests) == []
    error = capsys.readouterr().err
    assert "space/notes.json holds what looks like an access token" in error
    assert CANARY not in error


def test_a_private_model_gets_the_token_that_was_made_for_it(the_hub, spaces, small, monkeypatch, capsys):
    monkeypatch.setenv("SPACE_TOKEN", READER)
    assert deployed(the_hub, "owner/closed-page", model="owner/closed")[0] == 0
    space, said = spaces["owner/closed-page"], "".join(capsys.readouterr())
    assert space.secrets["HF_TOKEN"]["value"] == READER
    assert "secret    HF_TOKEN" in said
    for token in (READER, OWNER):
        assert token not in said
        assert token not in str(space.variables)
        assert token not in space.secrets["HF_TOKEN"]["description"]
        assert not any(
            token.encode() in body for body in the_hub.repositories.get("owner/closed-page", "space").files().values()
        )
    # The secret's value cannot be read back, yet it is not sent again; nor need it be given again.
    assert changes(deployed(the_hub, "owner/closed-page", model="owner/closed")[1]) == []
    monkeypatch.delenv("SPACE_TOKEN")
    assert changes(deployed(the_hub, "owner/closed-page", model="owner/closed")[1]) == []


@pytest.mark.parametrize(
    ("token", "access", "sentence"),
    [
        ("", {}, "set SPACE_TOKEN to it"),
        (OWNER, {"role": "write"}, "SPACE_TOKEN may do more than read"),
        (
            READER,
            {"role": "fineGrained", "fineGrained": {"scoped": [{"permissions": ["repo.content.read", "repo.write"]}]}},
            "SPACE_TOKEN may do more than read",
        ),
        (READER, {"role": "fineGrained", "fineGrained": {"global": ["discussion.write"]}}, "may do more than read"),
        (STRANGER, {"role": "read"}, "SPACE_TOKEN is wrong or may not read owner/closed"),
        ("hf_unknown", {}, "SPACE_TOKEN is wrong or may not read owner/closed"),
    ],
)
def test_no_other_token_gets_into_a_space(the_hub, spaces, small, monkeypatch, capsys, token, access, sentence):
    monkeypatch.setenv("SPACE_TOKEN", token)
    if token in the_hub.accounts:
        monkeypatch.setitem(spaces.access, the_hub.accounts[token].name, access)
    status, requests = deployed(the_hub, "owner/refused", model="owner/closed")
    assert status == 2
    assert changes(requests) == []
    error = capsys.readouterr().err
    assert sentence in error
    assert not token or token not in error


def test_an_open_model_needs_no_token_and_gets_none(the_hub, spaces, small, monkeypatch):
    monkeypatch.setenv("SPACE_TOKEN", READER)
    assert deployed(the_hub, "owner/no-secret")[0] == 0
    assert spaces["owner/no-secret"].secrets == {}


# ---- refusals and failures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "model", "options", "token", "sentence"),
    [
        ("owner/x", "owner/none", [], OWNER, "There is no model owner/none on the Hub"),
        ("owner/x", "owner/model@v9", [], OWNER, "The model owner/model has no revision 'v9'"),
        ("owner/x", "model", [], OWNER, "--model is 'model' but must be of the form OWNER/NAME"),
        ("owner/a--b", "owner/model", [], OWNER, "'owner/a--b' is not a valid repository name"),
        ("owner/x", "owner/model", [], "hf_wrong", "The Hub refused HF_TOKEN (status 401) for owner/model"),
        ("owner/x", "owner/model", [], READER, "HF_TOKEN does not have this right on owner/x"),
        ("owner/x", "owner/model", ["--hardware", "a100-large"], OWNER, "The Hub refuses --hardware a100-large (Subscribe to PRO"),
    ],
)  # fmt: skip
def test_what_the_hub_refuses_is_said_in_one_sentence(
    the_hub, spaces, small, monkeypatch, capsys, space, model, options, token, sentence
):
    monkeypatch.setenv("HF_TOKEN", token)
    assert deployed(the_hub, space, *options, model=model)[0] == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert space not in spaces.known


def test_hardware_that_is_not_given_later_leaves_the_space_as_it_was(the_hub, small, capsys):
    assert deployed(the_hub, "owner/steady")[0] == 0
    (small / "app.py").write_text("changed")
    assert deployed(the_hub, "owner/steady", "--hardware", "h200")[0] == 2
    assert "The Hub refuses --hardware h200 (You must have a valid payment method on file)" in capsys.readouterr().err
    assert the_hub.repositories.get("owner/steady", "space").files()["app.py"] != b"changed"


def test_somebody_elses_space_is_not_overwritten(the_hub, spaces, small, capsys):
    spaces.add("owner/precious", {"app.py": b"print('mine')", "README.md": b""})
    status, requests = deployed(the_hub, "owner/precious")
    assert status == 2
    assert "The Space owner/precious exists and holds something else" in capsys.readouterr().err
    assert changes(requests) == []


def test_a_commit_of_somebody_else_in_between_is_not_overwritten(the_hub, small, capsys):
    the_hub.fault("/commit/main", Refusal(412, message="A commit has happened since."), times=1)
    assert deployed(the_hub, "owner/race")[0] == 2
    assert "Somebody else changed owner/race at the same time" in capsys.readouterr().err


def test_a_build_error_shows_the_end_of_the_log_and_a_mended_tree_is_built(the_hub, small, capsys):
    (small / "requirements.txt").write_text("no-such-thing==1.0\n")
    assert deployed(the_hub, "owner/broken")[0] == 2
    assert "ended in BUILD_ERROR" in (error := capsys.readouterr().err)
    assert error.endswith("ERROR: No matching distribution found for no-such-thing==1.0\n")
    (small / "requirements.txt").write_text("safetensors==0.8.0\n")
    assert deployed(the_hub, "owner/broken")[0] == 0


def test_a_crash_shows_the_end_of_what_the_app_printed_without_tokens(the_hub, small, capsys):
    whole = (small / "app.py").read_text()
    (small / "app.py").write_text(f"print('line\\n' * 99)\nraise SystemExit('no ' + 'hf_' + '{CANARY[3:]}')\n")
    assert deployed(the_hub, "owner/crash")[0] == 2
    error = capsys.readouterr().err
    assert "ended in RUNTIME_ERROR" in error
    assert error.endswith("no hf_…\n")
    assert error.count("line") == stage.LINES - 2
    # Run again it is started again, for it may have been chance.
    assert deployed(the_hub, "owner/crash")[0] == 2
    assert "restart   from RUNTIME_ERROR" in capsys.readouterr().out
    (small / "app.py").write_text(whole)
    assert deployed(the_hub, "owner/crash")[0] == 0


def test_an_app_without_its_model_is_a_failure(the_hub, small, capsys):
    (small / "app.py").write_text(APP.replace("STATE", "failed"))
    assert deployed(the_hub, "owner/no-room")[0] == 2
    assert "owner/no-room has no model: No room." in capsys.readouterr().err


def test_waiting_ends(the_hub, small, monkeypatch, capsys):
    monkeypatch.setattr(stage, "PATIENCE", 0.5)
    (small / "app.py").write_text(APP.replace("STATE", "loading"))
    assert deployed(the_hub, "owner/slow")[0] == 2
    assert "owner/slow is RUNNING and does not answer after" in capsys.readouterr().err


# ---- the real thing -------------------------------------------------------------------------------------------------


def test_this_tree_answers_where_only_its_requirements_are_installed(the_hub, spaces, tmp_path, monkeypatch):
    model = {file.name: file.read_bytes() for file in DEMO_MODEL.iterdir() if file.is_file()}
    the_hub.repositories.add("owner/medical", model, private=True)
    monkeypatch.setenv("SPACE_TOKEN", READER)
    monkeypatch.setattr(spaces, "python", environment(ROOT / "requirements.txt", tmp_path / "fresh"))
    without = subprocess.run([spaces.python, "-c", "import datasets"], capture_output=True, text=True)
    assert "No module named 'datasets'" in without.stderr
    assert deployed(the_hub, "owner/page", model="owner/medical")[0] == 0
    asked = {"text": "What are the symptoms of diabetes?"}
    body = httpx.post(f"{spaces['owner/page'].host}/answer", json=asked, timeout=60).json()
    assert "thirst" in body["answer"]
    assert (body["model"], body["revision"]) == ("owner/medical", the_hub.repositories.get("owner/medical").head)
