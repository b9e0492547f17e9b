"""The predictor behind cog's own HTTP server, with the embedded model: guard, limits and streaming, as on the page."""

import json
import os
import subprocess
import sys

import httpx
import pytest
import yaml

from space.settings import Settings
from tests.deploy.dockerfile import ROOT, stages
from tests.serving import free_port, wait_until
from tests.test_readme import front_matter

CONFIG = yaml.safe_load((ROOT / "deploy/cog.yaml").read_text())
ENVIRONMENT = dict(pair.split("=", 1) for pair in CONFIG["environment"])
STREAMING = {"paths": {"/predictions": {"post": {"x-cog-streaming": True}}}}
"""What `cog build` writes of a `@streaming` method; without it the server answers whole."""
QUESTION = "What are the symptoms of diabetes?"


def test_cog_yaml_names_what_is_there():
    build = CONFIG["build"]
    file, name = CONFIG["run"].split(":")
    assert f"class {name}(BaseRunner)" in (ROOT / file).read_text()
    assert (ROOT / build["python_requirements"]).is_file()
    assert build["python_version"] == front_matter()["python_version"]
    assert any(
        f"apt-get install --yes --no-install-recommends {' '.join(build['system_packages'])} " in rest
        for _, rest in stages()["cpu"]
    )
    assert Settings.from_env(ENVIRONMENT) == Settings(max_running=1), "cog runs one prediction at a time"


@pytest.fixture(scope="module")
def cog(tmp_path_factory):
    """The address of cog's server in a tree as its image has it, once the model is loaded."""
    source = tmp_path_factory.mktemp("src")
    for name in ("space", "deploy"):
        (source / name).symlink_to(ROOT / name)
    (source / ".cog").mkdir()
    (source / ".cog/openapi_schema.json").write_text(json.dumps(STREAMING))
    port = free_port()
    environment = os.environ | ENVIRONMENT | {"COG_PREDICT_TYPE_STUB": CONFIG["run"], "PORT": str(port)}
    log = tmp_path_factory.mktemp("cog") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cog.server.http", "--host", "127.0.0.1"],
            cwd=source,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"

    def ready():
        assert process.poll() is None, log.read_text()
        try:
            status = httpx.get(f"{address}/health-check").json()["status"]
        except httpx.TransportError:
            return False
        assert status in ("STARTING", "READY"), log.read_text()
        return status == "READY"

    try:
        wait_until(ready, seconds=60)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def ask(address, **values):
    return httpx.post(f"{address}/predictions", json={"input": values}, timeout=60).json()


def test_it_answers(cog):
    done = ask(cog, question=QUESTION)
    answer = "".join(done["output"])
    assert done["status"] == "succeeded"
    assert "thirst" in answer
    assert "→ Check this at [MedlinePlus](" in answer


def test_it_streams(cog):
    body, accept = {"input": {"question": QUESTION}}, {"Accept": "text/event-stream"}
    with httpx.stream("POST", f"{cog}/predictions", json=body, headers=accept) as response:
        events = [
            json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line.startswith("data: ")
        ]
    chunks = [event["chunk"] for event in events if "chunk" in event]
    assert len(chunks) > 10
    assert chunks == events[-1]["output"]


def test_follow_up_questions_use_the_history(cog):
    first = "".join(ask(cog, question=QUESTION)["output"])
    assert "".join(ask(cog, question="How is it treated?", history=[QUESTION, first])["output"]).startswith(
        "Treatment for diabetes"
    )


def test_an_emergency_gets_its_notice_before_the_answer(cog):
    pieces = ask(cog, question="My chest hurts and my left arm is numb", locale="en-GB")["output"]
    assert "999" in pieces[0]
    assert len(pieces) > 1


def test_a_question_about_a_dose_never_reaches_the_model(cog):
    assert len(ask(cog, question="How many paracetamol tablets can I take?")["output"]) == 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"question": " "}, "The message is empty; please write a question."),
        (
            {"question": QUESTION, "temperature": 5.5},
            "temperature is 5.5 but must be a number from 0 to 2.0; please change it.",
        ),
        ({"question": "a" * 100_001}, "at most 100,000 are read; please shorten it."),
    ],
)
def test_a_mistake_is_one_sentence(cog, values, sentence):
    done = ask(cog, **values)
    assert done["status"] == "failed"
    assert done["error"].endswith(sentence)
