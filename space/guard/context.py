"""Which of the concepts that a message names are there now, for somebody: not negated, past, learnt or imagined."""

from __future__ import annotations

from dataclasses import dataclass, field

from space.guard.pattern import Hit
from space.guard.rules import Rules
from space.guard.text import Passage

_NEGATION_REACH = 6
_RISK_REACH = 6


@dataclass
class Present:
    """The concepts that are there, those that were until just now, and whether the message goes on with the last one."""

    there: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)
    continues: bool = False


def present(text: Passage, hits: list[Hit], rules: Rules) -> Present:
    """Judges each hit by the cues around it."""
    found = Present()
    concepts = [hit for hit in hits if not hit.concept.startswith("_")]
    cues: dict[str, list[Hit]] = {}
    for hit in hits:
        if hit.concept.startswith("_"):
            cues.setdefault(hit.concept[1:], []).append(hit)
    found.continues = "continuation" in cues
    if concepts:
        judge = _Judge(text, concepts, cues, rules)
        for hit in concepts:
            if hit.concept not in found.there and not judge.dismissed(hit):
                (found.over if judge.over(hit) else found.there).add(hit.concept)
    return found


class _Judge:
    def __init__(self, text: Passage, concepts: list[Hit], cues: dict[str, list[Hit]], rules: Rules) -> None:
        self._text, self._rules = text, rules
        size = len(text.words)
        # "A baby" is nobody in particular; "my baby" is.
        self._personal = [
            word in rules.persons and not (i and text.words[i - 1] in rules.generic)
            for i, word in enumerate(text.words)
        ]
        self._personal_clauses = {text.clause[i] for i in range(size) if self._personal[i]}
        # For each word, marks that are looked up once for each hit: all linear in the length of the text.
        self._ends_symptom = {hit.end for hit in concepts}
        self._idiom = _cover(cues.get("idiom", []), size)
        spared = _cover(cues.get("no_negation", []), size)
        self._negation = {hit.end - 1 for hit in cues.get("negation", []) if not spared[hit.start]}
        aside = _cover(cues.get("aside", []), size)
        self._cues = {
            name: _by_clause([cue for cue in cues.get(name, []) if not aside[cue.start]], text)
            for name in ("past", "now", "over", "learning", "learning_after", "hypothetical", "risk")
        }
        # "Is bleeding normal in early pregnancy" is about nobody; "is this bleeding normal" may be about the writer.
        self._nobody = not self._personal_clauses and rules.pointers.isdisjoint(text.words) and not self._cues["now"]
        self._asked = {text.sentence[cue.start] for cue in cues.get("asked", [])}
        self._of_a_thing = _last_named(_cover(cues.get("thing", []), size), self._personal, text.sentence)
        fiction = [cue for cue in cues.get("fiction", []) if not aside[cue.start]]
        self._fiction = bool(fiction)
        self._fiction_sentences = {text.sentence[cue.start] for cue in fiction}
        # Where a clause is in its sentence, so that a cue can reach over clauses without a subject of their own.
        self._sentence_of = dict(zip(text.clause, text.sentence, strict=True))

    def dismissed(self, hit: Hit) -> bool:
        firm = hit.concept in self._rules.firm
        return (
            any(self._idiom[hit.start : hit.end])
            or self._negated(hit)
            or self._imagined(hit)
            or self._at_risk(hit)
            or self._past(hit)
            or self._of_a_thing[hit.end - 1]
            or (not firm and (self._supposed(hit) or self._learnt(hit) or self._in_general(hit)))
        )

    def over(self, hit: Hit) -> bool:
        """Said to have gone: in the same clause, or in the next of the same sentence."""
        if hit.concept in self._rules.requested:
            return False
        clause = self._text.clause[hit.start]
        # Not a cue that is a part of it: "has stopped breathing" is not over.
        if any(cue.start >= hit.end for cue in self._cues["over"].get(clause, [])):
            return True
        following = clause + 1
        return self._sentence_of.get(following) == self._sentence_of[clause] and any(
            True for _ in self._cues["over"].get(following, [])
        )

    def _negated(self, hit: Hit) -> bool:
        """A negation in a gap of it ("headache isn't sudden"), or before it with no subject between; over commas only along
        a list of symptoms ("no fever, no …")."""
        text, crossed = self._text, False
        if any(i in self._negation and i not in hit.places for i in range(hit.start + 1, hit.end - 1)):
            return True
        for i in range(hit.start - 1, max(hit.start - 20, -1), -1):
            if text.sentence[i] != text.sentence[hit.start]:
                return False
            if text.clause[i] != text.clause[i + 1]:
                if i + 1 not in self._ends_symptom or text.words[i + 1] in self._rules.grammar.subjects:
                    return False
                crossed = True
            if i in self._negation:
                return True
            if self._personal[i] or text.words[i] in self._rules.grammar.splitters:
                return False
            if crossed and text.words[i] in self._rules.verbs:
                return False
            if not crossed and hit.start - i > _NEGATION_REACH and i + 1 not in self._ends_symptom:
                return False
        return False

    def _imagined(self, hit: Hit) -> bool:
        """In a film, a novel, homework: unless the clause is about the writer and stands in another sentence."""
        if not self._fiction:
            return False
        if self._text.sentence[hit.start] in self._fiction_sentences:
            return True
        return self._text.clause[hit.start] not in self._personal_clauses

    def _at_risk(self, hit: Hit) -> bool:
        cues = self._cues["risk"].get(self._text.clause[hit.start], [])
        return any(cue.start < hit.start <= cue.end + _RISK_REACH for cue in cues)

    def _past(self, hit: Hit) -> bool:
        clause = self._text.clause[hit.start]
        if clause in self._cues["now"]:
            return False
        if clause in self._cues["past"]:
            return True
        return any(
            self._sentence_of.get(other) == self._sentence_of[clause]
            and other in self._cues["past"]
            and other not in self._personal_clauses
            and other not in self._cues["now"]
            for other in (clause - 1, clause + 1)
        )

    def _supposed(self, hit: Hit) -> bool:
        return hit.concept not in self._rules.requested and any(True for _ in self._reaching("hypothetical", hit))

    def _in_general(self, hit: Hit) -> bool:
        """Asked in a message that is about nobody, or an illness that it only names."""
        if not self._nobody or hit.concept in self._rules.requested:
            return False
        return self._text.sentence[hit.start] in self._asked or self._rules.topics.issuperset(
            self._text.words[hit.start : hit.end]
        )

    def _learnt(self, hit: Hit) -> bool:
        clause = self._text.clause[hit.start]
        for cue in self._reaching("learning", hit):
            # "what are the signs of a stroke" against "what do I do about my chest pain"
            if not any(self._personal[cue.end : hit.end]):
                return True
        if self._cues["learning_after"].get(clause):
            return clause not in self._personal_clauses
        return False

    def _reaching(self, name: str, hit: Hit) -> list[Hit]:
        """Cues before the hit in its clause, or in an earlier one of the sentence with no person named in between."""
        clause = self._text.clause[hit.start]
        cues = [cue for cue in self._cues[name].get(clause, []) if cue.start < hit.start or cue.end > hit.start]
        cues = [cue for cue in cues if cue.start <= hit.start]
        earlier = clause
        for _ in range(4):
            if cues or earlier in self._personal_clauses:
                break
            earlier -= 1
            if self._sentence_of.get(earlier) != self._sentence_of[clause]:
                break
            cues = self._cues[name].get(earlier, [])
        return cues


def _cover(hits: list[Hit], size: int) -> list[bool]:
    covered = [False] * size
    for hit in hits:
        covered[hit.start : hit.end] = [True] * (hit.end - hit.start)
    return covered


def _last_named(things: list[bool], persons: list[bool], sentence: list[int]) -> list[bool]:
    """For each word, whether its sentence has named a thing or an animal before it, and no person since."""
    last: list[bool] = []
    for i, thing in enumerate(things):
        goes_on = bool(i) and sentence[i] == sentence[i - 1] and last[-1] and not persons[i]
        last.append(thing or goes_on)
    return last


def _by_clause(hits: list[Hit], text: Passage) -> dict[int, list[Hit]]:
    found: dict[int, list[Hit]] = {}
    for hit in hits:
        found.setdefault(text.clause[hit.start], []).append(hit)
    return found
