"""The HTTP routes on a real server, over real sockets."""

import socket
import threading
from contextlib import closing
from dataclasses import replace
from urllib.parse import urlparse

import httpx
import pytest
from gradio_client import Client

from space.engine import Sampling
from space.errors import GenerationFailed, ModelError
from tests.fakes import FakeEngine
from tests.serving import serving, wait_until


@pytest.fixture(scope="module")
def engine():
    return FakeEngine("Thirst and tiredness.")


@pytest.fixture(scope="module")
def address(engine):
    with serving(engine) as address:
        yield address


def ask(address, **body):
    return httpx.post(f"{address}/answer", json={"text": "What are the symptoms of diabetes?"} | body, timeout=30)


def test_an_answer_says_where_it_comes_from(address):
    response = ask(address)
    assert response.status_code == 200
    body = response.json()
    usage = body.pop("usage")
    assert [page["site"] for page in body.pop("verify")] == ["MedlinePlus", "NHS"]
    assert body == {
        "answer": "Thirst and tiredness.",
        "model": "fake/model",
        "revision": "abc123",
        "notice": "",
        "finish_reason": "stop",
    }
    assert usage["completion_tokens"] == 3
    assert usage["total_tokens"] == usage["prompt_tokens"] + 3


def test_history_and_sampling_reach_the_model(address, engine):
    history = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert ask(address, history=history, temperature=0.5, seed=7).status_code == 200
    messages, sampling = engine.requests[-1]
    assert [m["content"] for m in messages[1:3]] == ["q", "a"]
    assert (sampling.temperature, sampling.seed) == (0.5, 7)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"temperature": 9}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_new_tokens": 100000}, "max_new_tokens"),
        ({"top_k": 1.5}, "top_k"),
        ({"text": ""}, "empty"),
        ({"text": None}, "text"),
        ({"text": ["a"]}, "text"),
        ({"history": [{"role": "system", "content": "x"}]}, "history.0.role"),
        ({"history": "x"}, "history"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_value_is_422_with_its_name(address, body, word):
    response = ask(address, **body)
    assert response.status_code == 422
    assert word in response.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'{"text": "\xff"}', b'{"text": NaN}'])
def test_a_body_that_is_no_question_is_422_with_a_sentence(address, body):
    response = httpx.post(f"{address}/answer", content=body)
    assert response.status_code == 422
    assert "/docs" in response.json()["error"]


def test_a_text_that_cannot_fit_is_413_with_its_count(address):
    response = ask(address, text="word " * 3000)
    assert response.status_code == 413
    assert "3,0" in response.json()["error"]
    assert "tokens" in response.json()["error"]


def test_a_huge_body_is_413(address):
    assert ask(address, text="x" * 1_100_000).status_code == 413


def test_health_is_200_when_ready(address):
    response = httpx.get(f"{address}/health")
    assert response.status_code == 200
    assert response.json() == {"state": "ready", "model": "fake/model", "revision": "abc123", "reason": ""}


def test_docs_describe_both_routes_without_fetching_anything(address):
    page = httpx.get(f"{address}/docs").text
    assert "POST /answer" in page
    assert "GET /health" in page
    assert "<script" not in page
    assert "//cdn" not in page
    schema = httpx.get(f"{address}/openapi.json").json()
    assert set(schema["paths"]) == {"/answer", "/health"}
    assert "text" in str(schema["paths"]["/answer"]["post"]["requestBody"])


def test_gradios_own_client_gets_the_same_answer(address):
    client = Client(address, verbose=False)
    answer, _, links = client.predict("What are the symptoms of diabetes?", api_name="/chat").partition("\n\n→")
    assert answer == "Thirst and tiredness."
    assert "query=diabetes" in links


def test_without_values_gradios_client_gets_the_models_own_sampling():
    engine = FakeEngine("Thirst.")
    engine.sampling = Sampling(max_new_tokens=96, temperature=0.3, top_p=0.8, top_k=7, repetition_penalty=1.1)
    with serving(engine) as address:
        client = Client(address, verbose=False)
        client.predict("hi", api_name="/chat")
        client.predict("hi", temperature=0.9, api_name="/chat")
    assert [sampling for _, sampling in engine.requests] == [
        engine.sampling,
        replace(engine.sampling, temperature=0.9),
    ]


def test_chat_is_the_only_public_gradio_endpoint(address):
    named = httpx.get(f"{address}/gradio_api/info").json()["named_endpoints"]
    assert list(named) == ["/chat"]


def test_gradios_client_gets_errors_as_sentences(address):
    client = Client(address, verbose=False)
    notes = client.predict(" ", api_name="/chat")
    assert [note["metadata"]["title"] for note in notes] == ["The message is empty; please write a question."]
    with pytest.raises(Exception, match="greater than maximum"):
        client.predict("hi", temperature=9, api_name="/chat")


def test_while_the_model_loads_both_routes_are_503_and_then_well():
    gate, engine = threading.Event(), FakeEngine("fine")
    with serving(load=lambda settings: (gate.wait(20), engine)[1]) as address:
        for response in (httpx.get(f"{address}/health"), ask(address)):
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
        assert httpx.get(f"{address}/health").json()["state"] == "loading"
        gate.set()
        wait_until(lambda: httpx.get(f"{address}/health").status_code == 200)
        assert ask(address).json()["answer"] == "fine"


def test_a_model_that_cannot_be_loaded_is_503_with_the_reason():
    def load(settings):
        raise ModelError("The model x/y is gated: accept its licence.")

    with serving(load=load) as address:
        response = wait_until(lambda: (r := httpx.get(f"{address}/health")).json()["state"] == "failed" and r)
        assert response.status_code == 503
        assert "gated" in response.json()["reason"]
        assert "gated" in ask(address).json()["error"]
        assert httpx.get(address).status_code == 200, "the page must come up and say it"


def test_busy_is_503_with_retry_after():
    engine = FakeEngine("w " * 500, seconds_a_word=0.05)
    with serving(engine, max_running=1, max_waiting=0) as address:
        with closing(hang(address)):
            wait_until(lambda: engine.running == 1)
            response = ask(address)
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
            assert "try again" in response.json()["error"]
        wait_until(lambda: engine.running == 0)


def test_an_error_while_generating_is_503_with_its_sentence():
    with serving(FakeEngine(GenerationFailed("The model stopped; please try again."), "fine")) as address:
        response = ask(address)
        assert response.status_code == 503
        assert response.json() == {"error": "The model stopped; please try again."}
        assert ask(address).json()["answer"] == "fine"


def hang(address):
    """A connection that has asked and does not read."""
    url = urlparse(address)
    body = b'{"text": "hi"}'
    sock = socket.create_connection((url.hostname, url.port))
    sock.sendall(
        b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return sock


def test_a_dropped_connection_ends_generation():
    engine = FakeEngine("w " * 2000, seconds_a_word=0.05)
    with serving(engine) as address:
        sock = hang(address)
        wait_until(lambda: engine.running == 1)
        sock.close()
        wait_until(lambda: engine.running == 0, seconds=5)


def test_a_cancelled_gradio_job_ends_generation():
    engine = FakeEngine("w " * 2000, seconds_a_word=0.05)
    with serving(engine) as address:
        job = Client(address, verbose=False).submit("hi", api_name="/chat")
        wait_until(lambda: engine.running == 1)
        job.cancel()
        wait_until(lambda: engine.running == 0, seconds=5)


def test_page_and_api_share_one_bound():
    engine = FakeEngine("a b c d e f g h.", seconds_a_word=0.05)
    with serving(engine, max_running=2, max_waiting=20) as address:
        client = Client(address, verbose=False)
        jobs = [client.submit("hi", api_name="/chat") for _ in range(5)]
        threads = [threading.Thread(target=ask, args=(address,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert all("a b c" in job.result(30) for job in jobs)
        assert engine.most_running == 2


def test_upload_of_files_is_of_no_use(address):
    response = httpx.post(f"{address}/gradio_api/upload", files={"files": ("a.txt", b"x" * 5000)})
    assert response.status_code in (400, 413, 404)


def test_mcp_offers_one_tool_that_answers():
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def use(url):
        async with streamable_http_client(url) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            tools = (await session.list_tools()).tools
            result = await session.call_tool(tools[0].name, {"question": "hi"})
            return tools, result

    import anyio

    with serving(FakeEngine("Thirst and tiredness."), mcp=True) as address:
        tools, result = anyio.run(use, f"{address}/gradio_api/mcp/")
        assert Client(address, verbose=False).predict("hi", api_name="/ask") == "Thirst and tiredness."
    assert len(tools) == 1
    assert "not a substitute for professional" in tools[0].description
    assert result.content[0].text == "Thirst and tiredness."
