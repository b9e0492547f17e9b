"""Where an answer can be checked: a search for the topic, never for a story, and nothing for small talk."""

from urllib.parse import parse_qs, urlsplit

import pytest

from space.guard.verify import verify


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("What are the symptoms of diabetes?", "diabetes"),
        ("whats high blood pressure", "high blood pressure"),
        ("Tell me about vitamin D deficiency, please", "vitamin d deficiency"),
    ],
)
def test_the_topic_is_searched_for_on_trusted_sites(question, topic):
    pages = verify(question)
    assert [name for name, _ in pages] == ["MedlinePlus", "NHS"]
    for _, address in pages:
        assert topic in [values[0] for values in parse_qs(urlsplit(address).query).values()]
        assert urlsplit(address).scheme == "https"


@pytest.mark.parametrize("text", ["hi", "Thank you so much!", "what can you do?", "", "?!", "12345"])
def test_small_talk_has_nothing_to_check(text):
    assert verify(text) == ()


@pytest.mark.parametrize(
    "story",
    [
        "My brother Peter Smith from Leeds has had a strange pain under his left shoulder blade since Tuesday evening",
        "ما هي أعراض مرض السكري؟",
    ],
)
def test_a_story_or_another_script_is_not_sent_to_a_search(story):
    assert [urlsplit(address).query for _, address in verify(story)] == ["", ""]


def test_words_cannot_leave_the_search():
    (_, address), *_ = verify("diabetes&x=1#](http://evil.example) <b>")
    assert "evil.example" not in urlsplit(address).netloc
    assert not set("<>()[]# ") & set(address)
