"""What a visitor does, in a real browser on a real server. The engine is the fake one, slow enough to stop."""

import json
import re
import threading
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from space.errors import GenerationFailed, ModelError
from tests.fakes import FakeEngine
from tests.serving import serving, wait_until

LONG = "word " * 400


def ask(page, text):
    box = page.get_by_test_id("textbox")
    expect(box).to_be_enabled()
    box.fill(text)
    box.press("Enter")


def settled(page):
    """Until the answer's last event has come back."""
    expect(page.get_by_test_id("textbox")).to_be_enabled()
    page.wait_for_timeout(500)


def answers(page):
    return page.locator("#conversation .bot.message:not(.pending)")


def banner_in_view(page):
    """The whole disclaimer, unscrolled and uncovered: what lies on top at its corners is the banner itself."""
    return page.evaluate(
        """() => {
          const text = document.querySelector("#banner p"), box = text.getBoundingClientRect();
          const points = [[box.left + 2, box.top + 2], [box.right - 4, box.bottom - 4], [box.left + 2, box.bottom - 4]];
          return box.top >= 0 && box.bottom <= innerHeight && box.right <= innerWidth
            && points.every(([x, y]) => document.elementFromPoint(x, y)?.closest("#banner"));
        }"""
    )


def open_side(page):
    page.get_by_label("Toggle Sidebar").click()
    page.wait_for_timeout(400)  # it slides


@pytest.fixture(scope="module")
def engine():
    return FakeEngine("Symptoms include **thirst** and tiredness.")


@pytest.fixture(scope="module")
def address(engine):
    with serving(engine) as address:
        yield address


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_question_is_answered_in_markdown_and_the_next_one_can_be_asked(visit, address, width, scheme):
    page = visit(address, width=width, height=844, scheme=scheme)
    ask(page, "What are the symptoms of diabetes?")
    expect(answers(page)).to_have_text(re.compile("Symptoms include thirst and tiredness."))
    expect(answers(page).locator("strong")).to_have_text("thirst")
    ask(page, "And then?")
    expect(answers(page)).to_have_count(2)
    assert banner_in_view(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    assert page.get_by_test_id("textbox").bounding_box()["y"] < 844
    expect(page.get_by_test_id("textbox")).to_have_attribute("placeholder", "Ask a health question…")


def test_the_answer_streams_and_stop_ends_it_and_keeps_what_came(visit):
    engine = FakeEngine(LONG, "fine", seconds_a_word=0.05)
    with serving(engine) as address:
        page = visit(address)
        ask(page, "hi")
        expect(answers(page)).to_contain_text("word word")
        assert engine.running == 1
        page.get_by_role("button", name="Stop").click()
        wait_until(lambda: engine.running == 0, seconds=5)
        kept = answers(page).inner_text()
        assert "word word" in kept
        ask(page, "again")
        expect(answers(page).last).to_contain_text("fine")
        messages, _ = engine.requests[-1]
        assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"], "what came is in the history"
        settled(page)


SLOW_LINE = """
const now = window.fetch;
window.fetch = async (...request) => {
  const asking = String(request[0]?.url ?? request[0]).includes("queue/join");
  if (asking) await new Promise((go) => setTimeout(go, window.slow ?? 0));
  return now(...request);
};
"""


@pytest.mark.parametrize("way", ["typed", "retried"])
def test_stop_takes_no_press_until_there_is_something_to_stop(visit, way):
    """On a slow line the button is there before the answer has been asked for, when Gradio would lose the press."""
    engine = FakeEngine("first", LONG, "third", seconds_a_word=0.05)
    with serving(engine) as address:
        page = visit(address, script=SLOW_LINE)
        ask(page, "question one")
        expect(answers(page)).to_contain_text("first")
        settled(page)
        page.evaluate("window.slow = 800")
        if way == "typed":
            ask(page, "question two")
        else:
            page.get_by_label("Retry").last.click()
        button = page.get_by_role("button", name="Stop")
        expect(button).to_be_visible()
        assert len(engine.requests) == 1, "the server knows nothing of it yet"
        button.click()  # waits until it takes a press
        expect(page.get_by_role("button", name="Ask")).to_be_visible()
        page.wait_for_timeout(1500)
        assert engine.running == 0
        ask(page, "the last question")
        wait_until(lambda: engine.requests[-1][0][-1]["content"] == "the last question")
        settled(page)


def test_leaving_the_page_ends_generation(visit):
    engine = FakeEngine(LONG, seconds_a_word=0.05)
    with serving(engine) as address:
        page = visit(address)
        ask(page, "hi")
        expect(answers(page)).to_contain_text("word")
        page.close()
        wait_until(lambda: engine.running == 0, seconds=5)


def test_an_edited_question_can_be_stopped_and_the_next_one_asked(visit):
    engine = FakeEngine("first", LONG, "third", seconds_a_word=0.05)
    with serving(engine) as address:
        page = visit(address)
        ask(page, "question one")
        expect(answers(page)).to_contain_text("first")
        page.get_by_label("Edit").click()
        page.locator("#conversation textarea").fill("question two")
        page.get_by_label("Submit", exact=True).last.click()
        expect(answers(page)).to_contain_text("word word")
        page.get_by_role("button", name="Stop").click()
        wait_until(lambda: engine.running == 0, seconds=5)
        expect(page.get_by_role("button", name="Ask")).to_be_visible()
        ask(page, "question three")
        expect(answers(page).last).to_contain_text("third")
        assert [m["content"] for m in engine.requests[-1][0][1::2]] == ["question two", "question three"]
        settled(page)


def test_retry_undo_and_edit(visit):
    engine = FakeEngine("first", "second", "third")
    with serving(engine) as address:
        page = visit(address)
        ask(page, "question one")
        expect(answers(page)).to_contain_text("first")
        page.get_by_label("Retry").click()
        expect(answers(page)).to_contain_text("second")
        assert [m["content"] for m in engine.requests[-1][0][1:]] == ["question one"]
        page.get_by_label("Edit").click()
        field = page.locator("#conversation textarea")
        field.fill("question two")
        page.get_by_label("Submit", exact=True).last.click()
        expect(answers(page)).to_contain_text("third")
        assert [m["content"] for m in engine.requests[-1][0][1:]] == ["question two"]
        page.get_by_role("button", name="Undo").first.click()
        expect(answers(page)).to_have_count(0)
        expect(page.get_by_test_id("textbox")).to_have_value("question two")


def test_an_example_fills_the_box_and_does_not_run(visit, address, engine):
    page = visit(address)
    before = len(engine.requests)
    page.get_by_label("Select example 1: What are the symptoms of diabetes?").click()
    expect(page.get_by_test_id("textbox")).to_have_value("What are the symptoms of diabetes?")
    assert len(engine.requests) == before


def test_sliders_start_at_the_models_values_and_reach_the_model(visit, address, engine):
    page = visit(address)
    open_side(page)
    expect(page.get_by_label("number input for Temperature")).to_have_value("0")
    expect(page.get_by_label("number input for Longest answer")).to_have_value("512")
    page.get_by_label("number input for Temperature").fill("0.7")
    page.get_by_label("number input for Top-k").fill("40")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Toggle Sidebar").click()
    ask(page, "hi")
    expect(answers(page)).to_have_count(1)
    _, sampling = engine.requests[-1]
    assert (sampling.temperature, sampling.top_k, sampling.seed) == (0.7, 40, 7)


def test_until_the_model_is_there_the_sliders_are_careful(browser):
    gate, engine = threading.Event(), FakeEngine("Fine.")
    engine.sampling = replace(engine.sampling, temperature=0.35)
    with serving(load=lambda settings: (gate.wait(30), engine)[1]) as address:
        page = browser.new_context().new_page()
        page.goto(address)
        open_side(page)
        temperature, penalty = (
            page.get_by_label(f"number input for {name}") for name in ("Temperature", "Repetition penalty")
        )
        expect(temperature).to_have_value("0")
        expect(penalty).to_have_value("1")
        gate.set()
        expect(temperature).to_have_value("0.35")
        page.context.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_banner_stays_through_a_long_chat_and_an_open_panel(visit, width):
    with serving(FakeEngine("A long answer. " * 60)) as address:
        page = visit(address, width=width, height=700)
        for number in range(3):
            ask(page, f"question {number}")
            expect(answers(page)).to_have_count(number + 1)
        page.mouse.wheel(0, 5000)
        assert banner_in_view(page)
        open_side(page)
        assert banner_in_view(page)


def test_an_error_is_shown_as_its_sentence_and_the_next_question_works(visit):
    engine = FakeEngine(GenerationFailed("The model stopped; please try again."), "fine")
    with serving(engine) as address:
        page = visit(address)
        ask(page, "hi")
        expect(page.locator("#conversation")).to_contain_text("The model stopped; please try again.")
        ask(page, "again")
        expect(answers(page).last).to_contain_text("fine")
        assert [m["role"] for m in engine.requests[-1][0]] == ["system", "user", "assistant", "user"], "the note is not"
        settled(page)


def test_a_cut_answer_says_so_in_the_conversation(visit):
    with serving(FakeEngine("w " * 2000, context=200)) as address:
        page = visit(address)
        ask(page, "hi")
        expect(page.locator("#conversation")).to_contain_text("reached its longest length and was cut")
        settled(page)


def test_the_page_says_why_a_model_is_missing(visit):
    def load(settings):
        raise ModelError("The model x/y is gated: accept its licence and set HF_TOKEN.")

    with serving(load=load) as address:
        page = visit(address)
        expect(page.locator("#model")).to_contain_text("gated: accept its licence")
        ask(page, "hi")
        expect(page.locator("#conversation")).to_contain_text("accept its licence")
        settled(page)


PAIN = "I have crushing chest pain and my left arm is numb"


def test_an_emergency_is_answered_before_the_first_word_and_exported_with_its_answer(visit, tmp_path):
    class Held(FakeEngine):
        """Says nothing until it may."""

        may = threading.Event()

        def stream(self, *request):
            self.may.wait(30)
            return (yield from super().stream(*request))

    with serving(Held("Chest pain has many causes.")) as address:
        page = visit(address, width=390)
        ask(page, PAIN)
        notice = page.locator("#conversation blockquote")
        expect(notice).to_contain_text("This may be an emergency")
        expect(page.locator("#conversation")).not_to_contain_text("many causes")
        assert notice.locator("a").first.get_attribute("href").startswith("tel:")
        assert notice.bounding_box()["width"] < 390
        Held.may.set()
        expect(page.locator("#conversation")).to_contain_text("Chest pain has many causes.")
        settled(page)
        open_side(page)
        page.get_by_text("Export this conversation").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="JSON", exact=True).click()
        exported = json.loads(download.value.path().read_text())["messages"]
        assert [message["role"] for message in exported] == ["user", "system", "assistant"]
        assert "This may be an emergency" in exported[1]["content"]


def test_an_emergency_is_answered_where_there_is_no_model(visit):
    def load(settings):
        raise ModelError("The model x/y is gated: accept its licence and set HF_TOKEN.")

    with serving(load=load) as address:
        page = visit(address)
        ask(page, PAIN)
        expect(page.locator("#conversation blockquote")).to_contain_text("This may be an emergency")
        expect(page.locator("#conversation")).to_contain_text("accept its licence")
        settled(page)


def test_export_holds_the_disclaimer_the_model_and_the_settings(visit, address):
    page = visit(address)
    ask(page, "What are the symptoms of diabetes?")
    expect(answers(page)).to_have_count(1)
    expect(page.get_by_test_id("textbox")).to_be_enabled()
    open_side(page)
    page.get_by_text("Export this conversation").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Markdown").click()
    text = download.value.path().read_text()
    for expected in ("not a substitute for professional", "fake/model", "abc123", "temperature 0", "**thirst**"):
        assert expected in text
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    saved = json.loads(download.value.path().read_text())
    assert [m["role"] for m in saved["messages"]] == ["user", "assistant"]
    assert (saved["model"], saved["revision"], saved["settings"]["top_k"]) == ("fake/model", "abc123", 0)
    assert "emergency" in saved["disclaimer"]


def test_conversations_are_kept_only_once_switched_on_survive_a_restart_and_can_be_forgotten(visit):
    stored = "() => localStorage.getItem('medical-qa-conversations')"
    with serving(FakeEngine("A kept answer.")) as address:
        page = visit(address)
        ask(page, "a private question")
        expect(answers(page)).to_have_count(1)
        page.wait_for_timeout(500)
        assert page.evaluate(stored) is None
        open_side(page)
        page.get_by_text("Conversations in this browser").click()
        page.get_by_label("Keep my conversations").check()
        page.wait_for_function("() => localStorage.getItem('medical-qa-conversations')?.includes('A kept answer.')")
        port = int(address.rsplit(":", 1)[1])
    with serving(FakeEngine("A new answer."), port=port) as address:
        page.goto(address)
        page.get_by_test_id("textbox").wait_for()
        open_side(page)
        page.get_by_text("Conversations in this browser").click()
        expect(page.get_by_label("Keep my conversations")).to_be_checked()
        page.get_by_label("Open one again").click()
        page.get_by_role("option", name="a private question").click()
        expect(answers(page)).to_contain_text("A kept answer.")
        page.get_by_role("button", name="Forget everything").click()
        expect(answers(page)).to_have_count(0)
        wait_until(lambda: page.evaluate(stored) is None)
        expect(page.get_by_label("Keep my conversations")).not_to_be_checked()


def test_everything_can_be_reached_by_keyboard_and_has_a_name(visit, address):
    page = visit(address)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, textarea, input, select, a[href]")]
          .filter((e) => e.offsetParent !== null)
          .filter((e) => !(e.getAttribute("aria-label") || e.labels?.length || e.innerText.trim() || e.title
                           || e.getAttribute("placeholder")))
          .map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    page.get_by_test_id("textbox").focus()
    page.keyboard.type("hi")
    page.keyboard.press("Enter")
    expect(answers(page)).to_have_count(1)
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement?.getAttribute('aria-label') || document.activeElement?.innerText")
        )
    assert {"Retry", "Undo", "Toggle Sidebar"} <= reached


def test_what_the_model_writes_cannot_run_or_fetch(visit):
    attack = (
        "<script>window.hit = 1</script><img src='data:,' onerror='window.hit = 2'> "
        "<img src='https://example.org/a.png'> ![picture](https://example.org/b.png) "
        "[click](javascript:window.hit=3) <iframe src='https://example.org'></iframe> fine"
    )
    with serving(FakeEngine(attack)) as address:
        page = visit(address)
        ask(page, "hi")
        expect(answers(page)).to_contain_text("fine")
        settled(page)
        page.wait_for_timeout(300)
        assert page.evaluate("window.hit") is None
        assert page.locator("#conversation iframe, #conversation script").count() == 0
        assert page.locator("#conversation a[href^='javascript']").count() == 0
