"""What becomes of a text before anything learns from it. Pure: text in, text out."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter

import ftfy
from ftfy.badness import is_bad

from space.prompt import neutralise
from train.sample import plain as normalise

__all__ = ["normalise", "personal", "tidy", "tidy_answer", "words"]

_TAG = re.compile(
    r"</?(?:p|br|b|i|u|em|strong|span|div|a|ul|ol|li|sup|sub|small|table|tr|td|th|tbody|h[1-6]|img|font|center|blockquote"
    r"|ref|figure-inline|figure|hr|pre|code|nowiki)(?:\s+[\w-]+\s*=[^<>]*)?\s*/?>|<!--.*?-->",
    re.IGNORECASE | re.DOTALL,
)
_BRACKETED = re.compile(r"[<\[][^<>\[\]\s]{1,40}[>\]]")
# C0 and C1 controls without white space, zero-width and direction marks, soft hyphen, byte-order mark
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")

_SERVICE = r"(?:chat\s?-?\s?bots?|chat\s?-?\s?doctors?|health\s?care\s?magic(?:\.com)?|icliniq(?:\.com)?)"
_SERVICE_MARKS = ("chat", "magic", "icliniq")
_THANKS = (
    r"(?:(?:many\s+)?thank(?:s|\s*you)(?:\s+(?:so|very)\s+much|\s+a\s+lot)?|welcome(?:\s+back)?|greetings)"
    rf"(?:\s+(?:to|for|from|at|on|in|with|and|the|your|you|a|query|question|posting|contacting|asking|choosing|using|writing"
    rf"|consulting|trusting|me|us|here|health|forum))*\s+{_SERVICE}"
    r"(?:\s+(?:forum|family|platform|services?|team|website|community|again|here|for|with|regarding|about|your|the|this"
    r"|health|medical|query|queries|question|questions|concerns?|problem))*[\s.,!:;-]*"
)
_GREETING = r"(?:(?:hi|hello|hey|dear|sir|madam|friend|user|there|good\s+(?:day|morning|evening))\b[\s.,!-]*)*"
_OPENING = re.compile(rf"^\W*{_GREETING}{_THANKS}", re.IGNORECASE)
_INSIDE = re.compile(rf"(?<=[.!?])\s+{_THANKS}(?=[A-Z]|$)", re.IGNORECASE)
_CLOSING = re.compile(
    rf"\s*(?:\b(?:(?:best|kind|warm)\s+)?regards|\bthanks|\bthank you|\byours(?:\s+\w+)?|\bsincerely)?[\s,.-]*(?:\bfrom\s+)?"
    rf"(?:\bdr\.?\s*)?\b{_SERVICE}(?:\s+(?:team|forum))?[\s.,!]*$",
    re.IGNORECASE,
)

# Kind → what a text must contain for the pattern to be tried, because the patterns are slow, and the pattern.
_PERSONAL = {
    "e-mail address": (("@",), re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2,}", re.IGNORECASE)),
    "web address": (("://", "www."), re.compile(r"https?://|\bwww\.")),
    "name with a title": (("Mr", "Ms", "Miss", "Dr"), re.compile(r"\b(?:Mr|Mrs|Ms|Miss|Dr)\.?\s+[A-Z][a-z]+")),
}
_FOUR_DIGITS = re.compile(r"\d{4}")
_PERSONAL_DIGITS = {
    "phone number": re.compile(r"(?<![\d.-])(?:\+?\d{1,3}[ .-]?)?(?:\(\d{3}\)\s?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\d.-])"),
    "social security number": re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"),
    "full date": re.compile(
        r"(?<!\d)\d{1,2}[/.]\d{1,2}[/.](?:19|20)\d{2}(?!\d)"
        r"|\b(?:January|February|March|April|June|July|May|August|September|October|November|December) \d{1,2}, (?:19|20)\d{2}"
    ),
}


def tidy(text: str, changed: Counter[str]) -> str:
    """One line of plain text: mojibake and HTML undone, control tokens and invisible characters gone, spaces single.

    What had to be changed is counted in `changed`, each kind at most once a text.
    """
    if not text.isascii():
        text = _tidy_unicode(text, changed)
    if "&" in text and (unescaped := html.unescape(text)) != text:
        changed["HTML entities"] += 1
        text = unescaped
    if "<" in text and (untagged := _TAG.sub(" ", text)) != text:
        changed["HTML tags"] += 1
        text = untagged
    if ("<" in text or "[" in text) and neutralise(text) != text:
        changed["control tokens"] += 1
        text = neutralise(_BRACKETED.sub(_without_control_token, text))
    if (visible := _INVISIBLE.sub("", text)) != text:
        changed["invisible characters"] += 1
        text = visible
    return " ".join(text.split())


def _tidy_unicode(text: str, changed: Counter[str]) -> str:
    if is_bad(text) and (fixed := ftfy.fix_encoding(text)) != text:
        changed["mojibake"] += 1
        text = fixed
    return unicodedata.normalize("NFC", text)


def _without_control_token(match: re.Match[str]) -> str:
    """`space.prompt` decides what a control token is; in data it says nothing and goes."""
    return " " if neutralise(match.group()) != match.group() else match.group()


def tidy_answer(answer: str, question: str, changed: Counter[str]) -> str:
    """A tidy answer without the service's courtesies and without the question at its head."""
    lower = answer.lower()
    if any(mark in lower for mark in _SERVICE_MARKS):
        polite = _CLOSING.sub("", _INSIDE.sub(" ", _OPENING.sub("", answer))).strip()
        if polite != answer:
            changed["boilerplate"] += 1
            answer = polite[:1].upper() + polite[1:]
    if len(question) >= 10 and answer[: len(question)].lower() == question.lower():
        rest = answer[len(question) :].lstrip(" ?.:;,-–—")
        if rest and answer[len(question)] in " ?.:;,-–—":
            changed["question repeated before the answer"] += 1
            answer = rest
    return answer


def words(text: str) -> list[str]:
    """The lower-case words of a text: `normalise(text).split()`, quickly."""
    if text.isascii():
        return text.translate(_ASCII_WORDS).split()
    return normalise(text).split()


_ASCII_WORDS = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}


def personal(text: str) -> list[str]:
    """The kinds of personal detail that a text seems to hold. Patterns only: they miss some and suspect too much."""
    found = [
        kind
        for kind, (marks, pattern) in _PERSONAL.items()
        if any(mark in text for mark in marks) and pattern.search(text)
    ]
    if _FOUR_DIGITS.search(text):
        found += [kind for kind, pattern in _PERSONAL_DIGITS.items() if pattern.search(text)]
    return found
