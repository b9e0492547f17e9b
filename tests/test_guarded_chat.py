"""The guard comes before the model on every path; its notice never becomes a part of what the model is told."""

import httpx
import pytest
from gradio_client import Client

from space.chat import Assistant, Caller
from space.errors import ModelError
from space.settings import Settings
from space.ui import _answer, _messages
from tests.fakes import FakeEngine
from tests.serving import serving

PAIN = "I have crushing chest pain and my left arm is numb"
SUICIDE = "I want to kill myself"
DOSE = "How many ibuprofen should I take?"


def broken(settings):
    raise ModelError("There is no model there; check MODEL_ID.")


def replies(engine, text, history=(), load=None):
    assistant = Assistant(Settings(zero_gpu=True), load or (lambda settings: engine))
    assistant.start()
    return list(assistant.reply(list(history), text, caller=Caller(locale="en-GB")))


def test_an_emergency_is_noticed_before_the_first_word_and_the_model_answers_after_it():
    engine = FakeEngine("Chest pain has many causes.")
    first, *_, last = replies(engine, PAIN)
    assert (first.text, first.verdict.kind) == ("", "emergency")
    assert "999" in first.verdict.notice
    assert (last.text, last.finish_reason) == ("Chest pain has many causes.", "stop")
    assert last.verdict == first.verdict


@pytest.mark.parametrize(("text", "kind"), [(SUICIDE, "self-harm"), (DOSE, "dosing")])
def test_what_a_model_must_not_answer_never_reaches_it(text, kind):
    engine = FakeEngine("Take 12.")
    (only,) = replies(engine, text)
    assert (only.verdict.kind, only.finish_reason, only.text) == (kind, "guarded", "")
    assert only.verdict.notice
    assert engine.requests == []


def test_the_notice_comes_where_there_is_no_model():
    first, last = replies(None, PAIN, load=broken)
    assert "999" in first.verdict.notice
    assert (last.finish_reason, last.notice) == ("failed", "There is no model there; check MODEL_ID.")
    assert last.verdict == first.verdict


def test_symptoms_told_in_turn_add_up():
    engine = FakeEngine("I see.")
    history = [{"role": "user", "content": "My chest feels so tight"}, {"role": "assistant", "content": "I see."}]
    assert replies(engine, "I feel a bit sick too", history)[0].verdict.kind == "emergency"
    assert replies(engine, "I feel a bit sick too")[0].verdict.kind == "none"


@pytest.mark.parametrize(
    "text",
    [
        "What are the symptoms of a stroke?",
        "No chest pain, just a cough",
        "I had a stroke in 2010. What should I eat?",
        "This exam is killing me",
        "What are the side effects of statins?",
    ],
)
def test_questions_and_figures_of_speech_pass_by(text):
    assert all(reply.verdict.kind == "none" for reply in replies(FakeEngine("Fine."), text))


def test_a_notice_is_shown_and_exported_but_never_told_to_the_model():
    shown = _answer(replies(FakeEngine("Background."), PAIN)[-1])
    assert [message["content"][:1] for message in shown] == [">", "B"]
    assert "](tel:999)" in shown[0]["content"]
    assert _messages(shown, notices=False) == [{"role": "assistant", "content": "Background."}]
    assert [message["role"] for message in _messages(shown, notices=True)] == ["system", "assistant"]


def test_a_finished_answer_ends_with_where_to_check_it_and_the_model_never_sees_that():
    first, *_, last = replies(FakeEngine("Asthma narrows the airways."), "What is asthma?")
    assert _answer(first) == first.text, "not while it is being written"
    shown = _answer(last)
    assert shown.startswith("Asthma narrows the airways.\n\n")
    assert "[NHS](https://www.nhs.uk/search/results?q=asthma)" in shown
    history = [{"role": "assistant", "content": shown}]
    assert _messages(history, notices=False)[0]["content"] == "Asthma narrows the airways."
    assert "nhs.uk" in _messages(history, notices=True)[0]["content"]


def test_an_answer_with_a_dose_is_marked():
    last = replies(FakeEngine("You should take 400 mg every day."), "What is ibuprofen?")[-1]
    assert "names a dose" in last.notice


def test_over_http_with_numbers_of_the_visitors_country():
    with serving(load=broken) as address:
        body = {"text": PAIN}
        response = httpx.post(f"{address}/answer", json=body, headers={"Accept-Language": "en-AU"})
        assert response.status_code == 200
        assert "000" in response.json()["notice"]
        assert response.json()["finish_reason"] == "failed"
        assert httpx.post(f"{address}/answer", json={"text": "What is asthma?"}).status_code == 503


def test_through_gradios_client():
    with serving(FakeEngine("Background.")) as address:
        notice, answer = Client(address, verbose=False).predict(PAIN, api_name="/chat")
    assert "tel:" in str(notice)
    assert "Background." in str(answer)
