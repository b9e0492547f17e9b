"""Where to check an answer: the search pages of trusted sites, asked for the question's own words. Standard library only.

Never a citation that a model wrote: those are invented as easily as the rest.
"""

from __future__ import annotations

from urllib.parse import quote_plus

from space.guard.text import fold, tokens

LEAD = "\n\n→ Check this at "
"""What a finished answer goes on with: links to where it can be checked. The model never sees it again."""
_MOST = 6
"""Words that a search may have. A question with more of them is a story, which is nobody else's to read."""

# Words of questions, greetings and thanks, which are no topic to search for.
_IDLE_WORDS = """a about after again all also am an and any anything are as at bad be because been before being best bye by can cant cause
 caused causes common could day define describe did difference do does doing dont each ever every explain few find first for
 from get give go good goodbye great had happens has have having he hello help her hers hey hi him his how i id if im in
 information into is it its ive just kind know last life like live long look lot made make many may me mean means might morning more
 most much must my myself need next no not now of off often ok okay on one or other our out over people person please possible
 problem question questions really recommend said same say see serious she should show side sign signs so some someone
 something sort start still stop such symptom symptoms take talk tell than thank thanks that the their them then there these
 they thing things think this those to too treat treated treatment treatments try two type types u up us use used uses very
 want was way we what whats when where which while who why will with without work works worry would wrong yes you your
 yours"""
_IDLE = frozenset(_IDLE_WORDS.split())
_SITES = (
    (
        "MedlinePlus",
        "https://vsearch.nlm.nih.gov/vivisimo/cgi-bin/query-meta?v%3Aproject=medlineplus&v%3Asources=medlineplus-bundle&query=",
        "https://medlineplus.gov/healthtopics.html",
    ),
    ("NHS", "https://www.nhs.uk/search/results?q=", "https://www.nhs.uk/conditions/"),
)


def verify(question: str) -> tuple[tuple[str, str], ...]:
    """Names and addresses of pages on which an answer to this question can be checked; none for small talk.

    They search for its topic where it has a short one, and list all topics otherwise.
    """
    topic = dict.fromkeys(word for word in tokens(fold(question)) if word[0].isalpha() and word not in _IDLE)
    if not topic:
        return ()
    if len(topic) > _MOST or not all(word.isascii() for word in topic):
        return tuple((name, index) for name, _, index in _SITES)
    return tuple((name, search + quote_plus(" ".join(topic))) for name, search, _ in _SITES)


def links(pages: tuple[tuple[str, str], ...]) -> str:
    """These pages as the end of an answer, in Markdown; empty where there are none."""
    return LEAD + " or ".join(f"[{name}]({address})" for name, address in pages) if pages else ""
