"""What strangers can reach: headers, origins, routes, how often; and what is written down of them."""

import json
import logging
import subprocess
import sys

import httpx
import pytest

from space.errors import GenerationFailed
from space.log import set_up
from tests.fakes import FakeEngine
from tests.serving import serving


@pytest.fixture(scope="module")
def engine():
    return FakeEngine("fine")


@pytest.fixture(scope="module")
def address(engine):
    with serving(engine) as address:
        yield address


@pytest.fixture
def logged(capsys):
    """Starts to log at a level; gives the lines that have been logged since."""

    def lines():
        return [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]

    yield lambda level: (set_up(level), lines)[1]
    logging.getLogger("space").handlers.clear()


@pytest.mark.parametrize("path", ["/", "/health", "/docs", "/config", "/gradio_api/info", "/nothing"])
def test_every_answer_says_what_may_run_and_who_may_embed_it(address, path):
    headers = httpx.get(f"{address}{path}").headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["img-src"] == "'self' data: blob:"
    assert policy["object-src"] == policy["frame-src"] == "'none'"
    assert policy["frame-ancestors"] == "'self' https://huggingface.co https://*.hf.space"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "X-Frame-Options" not in headers, "Spaces could not show the page"


def test_pages_of_other_origins_may_call_a_public_host_but_not_somebodys_own_machine(address):
    def allowed(origin, host):
        response = httpx.post(f"{address}/answer", json={"text": "hi"}, headers={"Origin": origin, "Host": host})
        assert response.status_code == 200
        return response.headers.get("Access-Control-Allow-Origin")

    local = address.removeprefix("http://")
    assert allowed("https://example.org", "space.example.net") == "https://example.org"
    assert allowed("https://example.org", local) is None
    assert allowed(address, local) == address


SECRETS = ["/etc/passwd", "app.py", "space/settings.py", "../../../../../../etc/passwd", "/proc/self/environ"]
DOORS = [
    "/gradio_api/file={}",
    "/gradio_api/file/{}",
    "/file={}",
    "/gradio_api/proxy=http://127.0.0.1:1/{}",
    "/gradio_api/file=http://127.0.0.1:1/{}",
    "/static/{}",
    "/assets/{}",
    "/svelte/{}",
    "/gradio_api/custom_component/x/client/component/{}",
    "/gradio_api/stream/x/x/1/playlist-file?x={}",
    "/gradio_api/vibe-code?x={}",
    "/gradio_api/deep_link?session_hash={}",
    "/gradio_api/dev/reload?x={}",
    "/monitoring/summary?x={}",
]


@pytest.mark.parametrize("door", DOORS)
def test_no_route_reads_a_file_or_fetches_for_a_stranger(address, door):
    with httpx.Client(base_url=address) as client:
        for secret in SECRETS:
            for spelt in (secret, secret.replace("/", "%2f"), secret.replace("..", "%2e%2e")):
                response = client.get(door.format(spelt))
                assert response.status_code in (403, 404), (response.status_code, spelt)
                assert "root:" not in response.text


@pytest.mark.parametrize("path", ["upload", "component_server", "process_recording", "vibe-edit", "api/chat"])
def test_nothing_can_be_left_here(address, path):
    body = {"files": ("a.txt", b"x" * 100)}
    assert httpx.post(f"{address}/gradio_api/{path}", files=body).status_code in (404, 405)


def test_a_visitor_who_asks_too_often_is_told_when_to_come_back_and_others_are_not():
    with serving(FakeEngine("fine"), rate_limit="2/minute") as address:

        def ask(text, visitor):
            # From this machine uvicorn believes it, as it would a proxy.
            headers = {"X-Forwarded-For": visitor}
            return httpx.post(f"{address}/answer", json={"text": text}, headers=headers)

        assert [ask("hi", "192.0.2.1").status_code for _ in range(3)] == [200, 200, 429]
        refused = ask("hi", "192.0.2.1")
        assert 0 < int(refused.headers["Retry-After"]) <= 60
        assert "please try again in" in refused.json()["error"]
        assert ask("hi", "192.0.2.2").status_code == 200
        emergency = ask("I have crushing chest pain and my left arm is numb", "192.0.2.1")
        assert (emergency.status_code, emergency.json()["finish_reason"]) == (200, "failed")
        assert "emergency" in emergency.json()["notice"]


def test_there_is_no_limit_and_no_metrics_unless_asked_for(address):
    with httpx.Client(base_url=address) as client:
        assert {client.post("/answer", json={"text": "hi"}).status_code for _ in range(30)} == {200}
    assert httpx.get(f"{address}/metrics").status_code == 404
    code = "import space.chat, app, sys; print({'limits', 'prometheus_client'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_metrics_count_requests_by_how_they_ended():
    from prometheus_client.parser import text_string_to_metric_families

    with serving(FakeEngine("a b c.", GenerationFailed("No."), "fine"), metrics=True) as address:
        for text in ("hi", "hi", "hi", " "):
            httpx.post(f"{address}/answer", json={"text": text})
        page = httpx.get(f"{address}/metrics")
    assert page.headers["Content-Type"].startswith("text/plain; version=")
    counted = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }
    assert counted["medical_qa_requests_total", "/answer", "stop"] == 2
    assert counted["medical_qa_requests_total", "/answer", "GenerationFailed"] == 1
    assert counted["medical_qa_requests_total", "/answer", "BadRequest"] == 1
    assert counted["medical_qa_tokens_total", "completion"] == 5
    assert counted["medical_qa_seconds_count", "/answer"] == 4
    assert counted["medical_qa_running",] == counted["medical_qa_waiting",] == 0


def test_a_request_is_one_line_of_json_without_what_was_typed(address, engine, logged):
    lines = logged("info")
    engine.answers = ["Private answer.", ValueError("Private error"), "fine"]
    first = httpx.post(f"{address}/answer", json={"text": "private question"})
    httpx.post(f"{address}/answer", json={"text": "private question"})
    answered, failure, failed = written = lines()
    assert answered["id"] == first.headers["X-Request-Id"]
    assert (answered["route"], answered["outcome"], answered["completion_tokens"]) == ("/answer", "stop", 2)
    assert answered["seconds"] >= 0
    assert set(answered) == {
        *("time", "level", "event", "id", "route", "engine", "prompt_tokens", "completion_tokens", "seconds", "outcome")
    }
    assert (failure["error"], failure["level"]) == ("ValueError", "error")
    assert "fakes.py:" in failure["where"]
    assert (failed["outcome"], failed["level"]) == ("GenerationFailed", "warning")
    assert "rivate" not in str(written)


def test_a_level_leaves_out_what_is_below_it(address, logged):
    lines = logged("warning")
    httpx.post(f"{address}/answer", json={"text": "hi"})
    httpx.post(f"{address}/answer", json={"text": " "})
    assert [line["outcome"] for line in lines()] == ["BadRequest"]
