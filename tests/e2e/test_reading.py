"""Where the reader's eye is while an answer comes: at its head, on a phone too, until the reader scrolls."""

import pytest
from playwright.sync_api import expect

from tests.e2e.test_page import PAIN, answers, ask, settled
from tests.fakes import FakeEngine
from tests.serving import serving

LONG = "A long answer that goes on and on.\n\n" * 60
SCHEMES = ["light", "dark"]


@pytest.fixture(scope="module")
def address():
    with serving(FakeEngine(LONG)) as address:
        yield address


def in_view(page, element):
    """Whether the element's upper edge lies in the visible part of the conversation."""
    log, box = page.locator("#conversation [role=log]").bounding_box(), element.bounding_box()
    return log["y"] <= box["y"] < log["y"] + 0.6 * log["height"]


def distance_from_end(page):
    return page.evaluate(
        "(log => log.scrollHeight - log.clientHeight - log.scrollTop)(document.querySelector('#conversation [role=log]'))"
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_on_a_phone_the_head_of_an_emergency_notice_is_read_first(visit, address, scheme):
    page = visit(address, width=390, height=844, scheme=scheme)
    ask(page, PAIN)
    expect(page.locator("#conversation")).to_contain_text("on and on")
    settled(page)
    assert in_view(page, page.locator("#conversation blockquote"))
    assert distance_from_end(page) > 844


@pytest.mark.parametrize("question", ["hi", "Is this long question shown? " * 80], ids=["short", "long"])
def test_an_answer_longer_than_the_screen_is_read_from_its_head(visit, address, question):
    page = visit(address, width=390, height=844)
    for asked in (1, 2):
        ask(page, question)
        expect(answers(page)).to_have_count(asked)
        settled(page)
        assert in_view(page, answers(page).last)


def test_while_a_short_answer_comes_its_end_is_in_view(visit):
    with serving(FakeEngine("One.", "Two.", "Three.")) as address:
        page = visit(address, width=390, height=844)
        for asked in range(1, 4):
            ask(page, "What is this? " * 40)
            expect(answers(page)).to_have_count(asked)
            settled(page)
            assert distance_from_end(page) < 20


def test_whoever_scrolls_is_left_alone_until_the_next_question(visit):
    with serving(FakeEngine("word " * 450, seconds_a_word=0.004)) as address:
        page = visit(address, width=390, height=844)
        ask(page, "hi")
        expect(answers(page)).to_contain_text("word " * 200)
        page.locator("#conversation [role=log]").hover()
        page.mouse.wheel(0, 150)
        page.wait_for_timeout(200)
        before = answers(page).bounding_box()["y"]
        expect(answers(page)).to_contain_text("word " * 400)
        assert answers(page).bounding_box()["y"] == before
        settled(page)
        ask(page, "again")
        expect(answers(page)).to_have_count(2)
        settled(page)
        assert in_view(page, page.locator("#conversation .user.message").last)
