"""After the model: what a reader should know about its answer. Standard library only."""

from __future__ import annotations

import re

_DOSE = re.compile(
    r"\b(?:you|your child|your baby|he|she) (?:can|should|could|may|must|need to|have to) (?:safely )?(?:take|use|give|inject|have) "
    r"[^.!?\n]{0,60}\b(?:mg|mcg|milligrams?|micrograms?|ml|tablets?|pills?|capsules?|units?|puffs?|drops?|teaspoons?|doses?)\b"
    r"|\b(?:take|give|inject|use) (?:\w+ ){0,3}?(?:\d[\d.,]*|one|two|three|four|half) ?(?:to \d+ ?)?"
    r"(?:mg|mcg|g|milligrams?|micrograms?|ml|tablets?|pills?|capsules?|units?|puffs?|drops?|teaspoons?)\b"
    r"|\b(?:increase|reduce|double|lower|raise|stop taking|skip) your (?:\w+ ){0,3}?(?:dose|dosage|medication|medicine|insulin|tablets?)\b"
    r"|\byour dose (?:is|should|would)\b",
    re.IGNORECASE,
)
_NO_CARE = re.compile(
    r"\b(?:(?:do not|don[’']?t|no|not) need(?: to)? (?:to )?(?:see|call|visit|go to|consult|seek|worry)"
    r"|no need (?:to (?:see|call|visit|go|consult|seek|worry)|for (?:a |any )?(?:doctor|medical|ambulance|hospital))"
    r"|(?:should not|shouldn[’']?t|need not) (?:call|see|go to|seek|worry)"
    r"|(?:you can|just) (?:safely )?(?:ignore|wait it out|sleep it off)"
    r"|(?:there is )?nothing to worry about|(?:not necessary|unnecessary) to (?:see|call|seek|visit)"
    r"|do not (?:call|go to|seek|see) (?:an? |the |any )?(?:ambulance|doctor|hospital|emergency|medical|911|999|112))\b",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"[.!?…:)\]”\"'’*|।؟。`>]\s*$|^\s*(?:[-*]|\d+[.)]) [^\n]*$(?![\s\S])", re.MULTILINE)
_TAIL = 400

DOSE = "This answer names a dose or a change of one. Do not act on it: a pharmacist or doctor can say what is right for you."
NO_CARE = "This answer may sound as if no care were needed. Do not rely on that: if you are unsure or worse, ask a doctor or nurse."
BROKEN_OFF = "This answer seems to break off."


def cautions(answer: str, ended: bool) -> list[str]:
    """A sentence for each thing a reader should know about an answer; `ended`: by the model itself, so it should be whole."""
    found = []
    if _DOSE.search(answer):
        found.append(DOSE)
    if _NO_CARE.search(answer):
        found.append(NO_CARE)
    if ended and answer.strip() and not _WHOLE.search(answer[-_TAIL:]):
        found.append(BROKEN_OFF)
    return found
