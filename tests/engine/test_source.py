"""What a deployer reads when MODEL_ID leads nowhere, from the unmodified client of the Hub against a Hub of our own.

The client reads its endpoint and its cache from the environment once, so the code under test runs in a process of
its own, as `python app.py` does; one process serves all cases.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from space.engine import Sampling
from space.engine.gguf import OVERHEAD
from space.engine.provenance import read
from space.engine.pytorch import PyTorchEngine
from space.engine.source import locate
from space.errors import ModelError
from space.prompt import conversation
from space.settings import DEMO_MODEL, Settings
from tests.engine.conftest import ROOT
from tests.hub.server import READER, STRANGER, Refusal, hub
from tests.serving import free_port

_PROCESS = """
import json, sys
from space.engine import source
from space.errors import ModelError
from space.settings import Settings
for line in sys.stdin:
    function, free, settings = json.loads(line)
    source.free_memory = lambda: free
    try:
        answer = {"path": str(getattr(source, function)(Settings.from_env(settings)))}
    except ModelError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
"""


class Machine:
    """A machine that knows one Hub and keeps one cache; `locate` and `locate_gguf` run on it with the given settings."""

    def __init__(self, endpoint, home):
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")
        }
        self.endpoint = endpoint
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROCESS],
            cwd=ROOT,
            env=inherited | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, function, free, settings):
        self._process.stdin.write(json.dumps([function, free, settings]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def finds(self, function="locate", free=2**40, **settings):
        answer = self.ask(function, free, settings)
        assert "path" in answer, answer
        return Path(answer["path"])

    def says(self, function="locate", free=2**40, **settings):
        """The sentence that tells why there is no model: always a single line."""
        sentence = self.ask(function, free, settings)["error"]
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        return sentence

    def stop(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


@pytest.fixture(scope="module")
def the_hub():
    with hub() as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def online(the_hub, home):
    machine = Machine(the_hub.endpoint, home)
    yield machine
    machine.stop()


@pytest.fixture(scope="module")
def offline(home):
    """The same machine, and so the same cache, later: nothing listens where the Hub was."""
    machine = Machine(f"http://127.0.0.1:{free_port()}", home)
    yield machine
    machine.stop()


# ---- a model is there ---------------------------------------------------------------------------------------------


def test_without_a_model_id_it_is_the_embedded_model():
    assert locate(Settings()) == DEMO_MODEL


def test_a_folder_is_taken_as_it_is(tmp_path, monkeypatch):
    assert locate(Settings(model_id=str(tmp_path))) == tmp_path
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate(Settings(model_id="owner/name")) == Path("owner/name")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate(Settings(model_id="~/owner")) == tmp_path / "owner"


def test_a_model_is_fetched_from_the_hub_and_answers(the_hub, online, tiny):
    files = {file.name: file.read_bytes() for file in sorted(tiny.iterdir())}
    repository = the_hub.repositories.add("owner/good", files)
    folder = online.finds(MODEL_ID="owner/good")
    settings = Settings(model_id="owner/good")
    engine = PyTorchEngine(folder, settings)
    pieces = engine.stream(conversation([], "hello"), Sampling(max_new_tokens=16), threading.Event())
    assert "".join(pieces).strip()
    assert engine.provenance.model == "owner/good"
    assert engine.provenance.revision == repository.head


def test_no_pickle_and_no_code_is_ever_asked_for(the_hub, online):
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"}
    unwanted = {
        "pytorch_model.bin",
        "training_args.bin",
        "model.pt",
        "model.pth",
        "model.pkl",
        "modeling_own.py",
        "model.gguf",
        "onnx/model.onnx",
    }
    the_hub.repositories.add("owner/mixed", files=dict.fromkeys(sorted(wanted | unwanted), b"{}"))
    folder = online.finds(MODEL_ID="owner/mixed")
    assert the_hub.repositories.fetched("owner/mixed") == wanted
    assert {file.name for file in folder.iterdir()} == wanted


def test_a_commit_is_fetched_and_named_as_revision(the_hub, online):
    head = the_hub.repositories.add("owner/pinned").head
    folder = online.finds(MODEL_ID="owner/pinned", MODEL_REVISION=head)
    settings = Settings(model_id="owner/pinned", model_revision="main")
    assert read(folder, settings, runs_on="").revision == head


@pytest.mark.parametrize("lock", ["private", "gated"])
def test_the_right_token_opens_a_private_and_a_gated_model(the_hub, online, lock):
    the_hub.repositories.add(f"owner/open-{lock}", **{lock: True})
    assert (online.finds(MODEL_ID=f"owner/open-{lock}", HF_TOKEN=READER) / "config.json").is_file()


def test_a_model_fetched_once_is_found_while_the_hub_is_away(the_hub, online, offline):
    the_hub.repositories.add("owner/kept")
    folder = online.finds(MODEL_ID="owner/kept")
    assert offline.finds(MODEL_ID="owner/kept") == folder


# ---- a repository of GGUF files -------------------------------------------------------------------------------------


QUANTISED = {
    "gemma-Q2_K.gguf": b"x" * 2000,
    "gemma-Q4_0.gguf": b"x" * 4000,
    "gemma-Q8_0.gguf": b"x" * 8000,
    "gemma-f16.gguf": b"x" * 16000,
    "gemma-Q4_0-00001-of-00002.gguf": b"x" * 100,
    "mmproj-gemma-f16.gguf": b"x" * 100,
    "README.md": b"---\nlicense: gemma\n---\n",
}


@pytest.mark.parametrize(
    ("free", "chosen"),
    [(2**40, "gemma-Q4_0.gguf"), (OVERHEAD + 9000, "gemma-Q4_0.gguf"), (OVERHEAD + 3000, "gemma-Q2_K.gguf")],
    ids=["plenty of memory", "enough", "little"],
)
def test_the_quantisation_that_fits_memory_is_fetched_and_nothing_else(the_hub, online, free, chosen):
    name = f"owner/gguf-{free}"
    the_hub.repositories.add(name, files=QUANTISED)
    file = online.finds("locate_gguf", free, MODEL_ID=name)
    assert file.name == chosen
    assert the_hub.repositories.fetched(name) == {chosen, "README.md"} == {kept.name for kept in file.parent.iterdir()}


def test_gguf_file_overrides_the_choice(the_hub, online):
    the_hub.repositories.add("owner/gguf", files=QUANTISED)
    file = online.finds("locate_gguf", MODEL_ID="owner/gguf", GGUF_FILE="gemma-Q8_0.gguf")
    assert file.read_bytes() == QUANTISED["gemma-Q8_0.gguf"]


def test_a_gguf_file_that_is_not_there_is_said_with_those_that_are(the_hub, online):
    the_hub.repositories.add("owner/gguf", files=QUANTISED)
    sentence = online.says("locate_gguf", MODEL_ID="owner/gguf", GGUF_FILE="gemma-Q3_K.gguf")
    assert sentence.startswith(
        "GGUF_FILE is 'gemma-Q3_K.gguf', which owner/gguf does not have; it has gemma-Q2_K.gguf, "
    )


def test_no_quantisation_fits_memory(the_hub, online):
    the_hub.repositories.add("owner/gguf", files=QUANTISED)
    assert online.says("locate_gguf", OVERHEAD + 1000, MODEL_ID="owner/gguf") == (
        "There is not enough memory on this machine for owner/gguf: its smallest GGUF file needs 0.5 GB and 0.5 GB are free; "
        "choose a smaller model."
    )


def test_a_gguf_file_fetched_once_is_found_while_the_hub_is_away(the_hub, online, offline):
    the_hub.repositories.add("owner/kept-gguf", files=QUANTISED)
    file = online.finds("locate_gguf", MODEL_ID="owner/kept-gguf")
    assert offline.finds("locate_gguf", MODEL_ID="owner/kept-gguf") == file


# ---- and where it is not, a sentence says what to do --------------------------------------------------------------


@pytest.mark.parametrize("token", ["", READER])
def test_repository_missing(online, token):
    sentence = online.says(MODEL_ID="owner/missing", HF_TOKEN=token)
    assert sentence.startswith("There is no model owner/missing on the Hub, or ")
    assert sentence.endswith("; check MODEL_ID and HF_TOKEN.")


def test_private_without_a_token(the_hub, online):
    the_hub.repositories.add("owner/private", private=True)
    assert "it is private and HF_TOKEN is not set; check" in online.says(MODEL_ID="owner/private")


def test_private_with_the_token_of_a_stranger(the_hub, online):
    the_hub.repositories.add("owner/private", private=True)
    sentence = online.says(MODEL_ID="owner/private", HF_TOKEN=STRANGER)
    assert "HF_TOKEN belongs to an account that may not read it; check" in sentence


@pytest.mark.parametrize("token", ["", STRANGER])
def test_gated_and_not_accepted(the_hub, online, token):
    the_hub.repositories.add("owner/gated", gated=True)
    sentence = online.says(MODEL_ID="owner/gated", HF_TOKEN=token)
    assert sentence.startswith("The model owner/gated is gated: ")
    assert f"accept its licence at {the_hub.endpoint}/owner/gated and set HF_TOKEN to a token" in sentence


def test_token_wrong(the_hub, online):
    the_hub.repositories.add("owner/public")
    sentence = online.says(MODEL_ID="owner/public", HF_TOKEN="hf_mistyped")
    assert sentence.startswith("The Hub refused HF_TOKEN (status 401) for owner/public; make a new token")
    assert "hf_mistyped" not in sentence


def test_token_without_the_right_to_read(the_hub, online):
    the_hub.repositories.add("owner/forbidden")
    the_hub.fault("owner/forbidden", Refusal(403))
    sentence = online.says(MODEL_ID="owner/forbidden", HF_TOKEN=STRANGER)
    assert sentence.startswith("The Hub refused HF_TOKEN (status 403) for owner/forbidden; make a new token with read")


@pytest.mark.parametrize("revision", ["v9", "f" * 40])
def test_revision_missing(the_hub, online, revision):
    the_hub.repositories.add("owner/known")
    sentence = online.says(MODEL_ID="owner/known", MODEL_REVISION=revision)
    assert sentence.startswith(f"The model owner/known has no revision '{revision}'; set MODEL_REVISION to")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_hub_in_trouble(the_hub, online, status):
    the_hub.fault(f"owner/trouble-{status}", Refusal(status))
    sentence = online.says(MODEL_ID=f"owner/trouble-{status}")
    assert sentence == f"The Hub answered {status} for owner/trouble-{status}; wait a moment and start again."


def test_the_connection_breaks(the_hub, online):
    the_hub.fault("owner/cut", "cut")
    sentence = online.says(MODEL_ID="owner/cut")
    assert sentence.startswith("The connection to the Hub broke while fetching owner/cut (")
    assert sentence.endswith("); start again to continue the download.")


def test_hub_unreachable(offline):
    assert offline.says(MODEL_ID="owner/never-fetched") == (
        f"The Hub cannot be reached to fetch owner/never-fetched; check this machine's connection and "
        f"{offline.endpoint}, or set MODEL_ID to a local folder."
    )


def test_a_half_downloaded_model_is_told_apart_and_finished_later(the_hub, online, offline):
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    the_hub.repositories.add("owner/half", files=files)
    the_hub.fault("GET /storage/owner/half/", Refusal(500))
    assert online.says(MODEL_ID="owner/half").startswith("The Hub answered 500 for owner/half; wait")
    assert offline.says(MODEL_ID="owner/half") == (
        "The model owner/half is only half downloaded and the Hub cannot be reached to finish it; "
        "connect this machine and start again."
    )
    the_hub.well()
    assert (online.finds(MODEL_ID="owner/half") / "model.safetensors").read_bytes() == b"weights"


def test_a_file_that_arrives_damaged_is_fetched_again(the_hub, online):
    """As long as it should be, of other bytes: nothing but its hash tells."""
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    the_hub.repositories.add("owner/damaged", files)
    the_hub.fault("GET /(storage/)?owner/damaged/", "corrupt")
    assert online.says(MODEL_ID="owner/damaged") == (
        "config.json, model.safetensors of the model owner/damaged arrived damaged; start again to fetch it again."
    )
    the_hub.well()
    folder = online.finds(MODEL_ID="owner/damaged")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files


def test_a_connection_that_breaks_in_the_middle_of_a_file_is_taken_up_again(the_hub, online):
    the_hub.repositories.add("owner/broken-off", {"config.json": b"{}", "model.safetensors": b"weights"})
    the_hub.fault("GET /storage/owner/broken-off/", "half", times=1)
    assert (online.finds(MODEL_ID="owner/broken-off") / "model.safetensors").read_bytes() == b"weights"


def test_a_full_disk(the_hub, tmp_path):
    the_hub.repositories.add("owner/large")
    (tmp_path / "home").write_text("a file where the cache would go: nothing can be stored")
    machine = Machine(the_hub.endpoint, tmp_path / "home")
    sentence = machine.says(MODEL_ID="owner/large")
    machine.stop()
    assert sentence.startswith("The model owner/large could not be stored (")
    assert sentence.endswith("); make room or set HF_HOME to a folder with enough space.")


@pytest.mark.parametrize(
    "name", ["gemma", "a/b/c", "/nowhere/model", "./model", "~/model", "~nobody-here/model", "../nowhere", "x" * 5000]
)
def test_neither_a_folder_nor_a_repository(name):
    with pytest.raises(ModelError) as error:
        locate(Settings(model_id=name))
    assert str(error.value) == (
        f"MODEL_ID is {name!r}, which is neither a folder here nor a Hub repository of the form owner/name; "
        "correct it and start again."
    )


@pytest.mark.parametrize(
    "name", ["owner/two words", "owner/name.git", "owner/a--b", "-owner/name", "owner/" + "x" * 99]
)
def test_not_a_valid_name(online, name):
    assert online.says(MODEL_ID=name) == (
        f"MODEL_ID is {name!r}, which is not a valid repository name; write owner/name."
    )
