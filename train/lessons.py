"""From the data set to conversations: the lessons the demo model is trained on, and the questions that check it.

What is held out of the lessons: for each topic about one wording in six (`Teacher.spare`), two wordings of each kind for
every topic (`phrasing.templates(…, held_out=True)`), one in five of the names and questions outside the topics, some
messages of the small talk, and `questions.jsonl`, which nobody here has fitted to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random

from space.prompt import Message
from train.phrasing import (
    BESIDES,
    SWITCHES,
    Name,
    ask,
    careless,
    fill,
    follow_ups,
    invented_name,
    misspell,
    qualifiers,
    sentence,
    templates,
)
from train.sample import GROUPS, Sample, Topic, held_out, plain, read_rows

_NEAREST = {
    "aid": {"treatment": "steps"},
    "condition": {"steps": "treatment", "symptoms": "what"},
    "test": {"uses": "why"},
    "nutrient": {"uses": "need"},
    "medicine": {"why": "uses", "need": "uses"},
}
"""Kinds a topic has no answer for, and the kind that answers them best."""


@dataclass(frozen=True)
class Lesson:
    """A conversation: (message, answer) turns; unless `whole`, only the first words of the last answer are learned."""

    turns: tuple[tuple[str, str], ...]
    whole: bool


def messages(turns: Iterable[tuple[str, str]]) -> list[Message]:
    """(message, answer) turns as a conversation has them."""
    return [m for q, a in turns for m in (Message(role="user", content=q), Message(role="assistant", content=a))]


@dataclass(frozen=True)
class Course:
    """How a run of lessons is worded: shares of all."""

    main_name: float = 0.15
    """Questions that use a topic's main name whatever else it is called; in the others all its names are alike."""
    pieced: float = 0.5
    shouted: float = 0.1
    """See `phrasing.ask` and `phrasing.careless`. People shout less, but capitals are the hardest to learn."""
    known: float = 0.53
    """Single messages that ask what the model knows; what it must refuse makes up for fewer of them."""
    near_misses: float = 0.12
    """Refused questions about a name pieced together from a known one and another."""


FIRST = Course()
_HARD = Course(main_name=0.0, pieced=0.25, shouted=0.15)
SECOND = (_HARD, replace(_HARD, known=0.48, near_misses=0.2))
"""The hardest again (bare, short wordings, a topic's rarer names, capitals): for one that answers, and one that refuses."""


@dataclass(frozen=True)
class Probe:
    """A question of the check, what went before it, and the one right answer."""

    question: str
    answer: str
    history: tuple[tuple[str, str], ...] = ()


class Teacher:
    """Writes lessons and probes from a sample, always the same ones for the same generator."""

    def __init__(self, sample: Sample, course: Course = FIRST) -> None:
        self.sample, self.course = sample, course
        known = {plain(name.text) for topic in sample.topics for name in topic.names}
        self._longer = {name for name in known | {plain(n.text) for n, _ in sample.declined} if " " in name}
        self.answers = [(topic, kind) for topic in sample.topics for kind in topic.answers]
        self.names = [(n, g) for n, g in sample.declined if not held_out(n.text)]
        self.held_names = [(n, g) for n, g in sample.declined if held_out(n.text)]
        held = [plain(name.text) for name, _ in self.held_names]
        self._held = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(held))) + r")(?:s|es)?\b") if held else None
        self._known = known
        self._declined = {plain(n.text) for n, _ in sample.declined}
        self.questions = [q for q in sample.declined_questions if not held_out(q) and not self.leaks(q)]
        self.held_questions = [q for q in sample.declined_questions if held_out(q)]
        self.messages: list[tuple[str, str]] = []
        self.held_messages: list[tuple[str, str]] = []
        for answer, messages in sample.replies.items():
            for message in messages:
                # Greetings and thanks of a few words cannot be guessed from others, and everybody types them.
                spare = len(messages) >= 6 and len(message.split()) > 3 and held_out(message, 10)
                (self.held_messages if spare else self.messages).append((message, answer))

    def leaks(self, question: str) -> bool:
        """Whether a question names one of the held-out names."""
        return bool(self._held and self._held.search(plain(question)))

    # ---- single questions -------------------------------------------------------------------------------------

    def spare(self, topic: Topic, kind: str) -> list[str]:
        """The templates of `kind` that are never trained on with this topic; about one in six, by a hash of both."""
        own = topic.names[0].text
        return [t for t in templates(kind) if held_out(f"{own} {t}", 6)] or templates(kind)[-1:]

    def about(self, topic: Topic, kind: str, rng: Random, held: bool = False) -> str:
        """A tidy question of `kind` about `topic`, under any of its names, that is not also one about something else."""
        spare = self.spare(topic, kind)
        for _ in range(40):
            name = topic.names[0] if rng.random() < self.course.main_name else rng.choice(topic.names)
            if kind == "what" and topic.group == "condition" and rng.random() < 0.1:
                question = ask("told", name, rng, held)
            else:
                question = ask(kind, name, rng, held, spare, self.course.pieced)
            if not self._ambiguous(question, name):
                return question
        return ask(kind, topic.names[0], rng, held, spare, self.course.pieced)

    def spared(self, topic: Topic, kind: str, rng: Random) -> str:
        """A question of `kind` about `topic` in one of the wordings that are never trained on with it."""
        choices = [(t, name) for t in self.spare(topic, kind) for name in topic.names]
        rng.shuffle(choices)
        questions = [(fill(t, name), name) for t, name in choices]
        return next((q for q, name in questions if not self._ambiguous(q, name)), questions[0][0])

    def _ambiguous(self, question: str, name: Name) -> bool:
        """Whether the words make up a longer name too ("vitamin D deficiency" asked about vitamin D)."""
        words, own = plain(question).split(), plain(name.text)
        for size in range(len(own.split()) + 1, min(len(words), 6) + 1):
            for start in range(len(words) - size + 1):
                phrase = " ".join(words[start : start + size])
                if own in phrase and phrase in self._longer:
                    return True
        return False

    def invented(self, rng: Random) -> Name:
        """A made-up name that is neither known nor held out."""
        while True:
            name = invented_name(rng)
            if plain(name) not in self._known and not self.leaks(name):
                return Name.guess(name)

    def near_miss(self, rng: Random) -> tuple[Name, str]:
        """A name pieced together from a known one and another: "heart block", "hypermobility". And the known one's group."""
        while True:
            topic = rng.choice(self.sample.topics)
            known, other = rng.choice(topic.names).text, rng.choice(self.names)[0].text
            if " " in known and rng.random() < 0.8:
                words, new = known.split(), rng.choice(other.split())
                words[rng.randrange(len(words))] = new
                name = " ".join(words)
            else:
                word, new = rng.choice(known.split()), rng.choice(other.split())
                halves = [
                    word[: (len(word) + 1) // 2] + new[len(new) // 2 :],
                    new[: (len(new) + 1) // 2] + word[len(word) // 2 :],
                ]
                name = rng.choice(halves)
            told = plain(name)
            if len(name) > 4 and told not in self._known | self._declined and not self.leaks(name):
                return Name.guess(name), topic.group

    def _outside(self, rng: Random, name: Name, group: str) -> str:
        kinds = GROUPS[group] if rng.random() < 0.7 else GROUPS[rng.choice(list(GROUPS))]
        kind = rng.choice(kinds)
        if group == "condition" and rng.random() < 0.05:
            kind = "told"
        article = rng.choice(["", "", "a ", "the "]) if group != "nutrient" else ""
        return ask(kind, Name(name.text, article, name.plural), rng, pieced=self.course.pieced)

    def refused(self, rng: Random) -> str:
        """A question that the demo must decline."""
        choice = rng.random()
        if choice < 0.60 - self.course.near_misses and self.names:
            name, group = rng.choice(self.names)
            return self._outside(rng, name, group)
        if choice < 0.72 - self.course.near_misses:
            return self._outside(rng, self.invented(rng), rng.choice(list(GROUPS)))
        if choice < 0.72:
            name, group = self.near_miss(rng)
            return self._outside(rng, name, group)
        if choice < 0.87:
            topic, kind = rng.choice([pair for pair in self.answers if pair[0].group in ("condition", "aid")])
            return self.about(topic, kind, rng).rstrip("?.! ") + " " + rng.choice(qualifiers()) + "?"
        if choice < 0.90:
            group = rng.choice(list(GROUPS))  # a question of some kind about nothing
            return sentence(rng.choice(follow_ups(rng.choice(GROUPS[group]))))
        if choice < 0.93:  # a known name, asked for something no answer tells
            name = rng.choice(rng.choice(self.sample.topics).names)
            return fill(rng.choice(BESIDES), name)
        if choice < 0.94:  # a topic of first aid has no causes to tell
            pairs = [topic for topic in self.sample.topics if topic.group == "aid"]
            if pairs:
                return self.about(rng.choice(pairs), "causes", rng)
        if self.questions:
            return rng.choice(self.questions)
        return self._outside(rng, self.invented(rng), "condition")

    def _careless(self, text: str, rng: Random) -> str:
        return careless(text, rng, self.course.shouted)

    def single(self, rng: Random) -> tuple[str, str]:
        """One question or message, as people type it, and its answer."""
        choice = rng.random()
        if choice < self.course.known:
            topic, kind = rng.choice(self.answers)
            return self._careless(self.about(topic, kind, rng), rng), topic.answers[kind]
        if choice < self.course.known + 0.03:
            topic = rng.choice(self.sample.topics)
            other = {k: v for k, v in _NEAREST[topic.group].items() if k not in topic.answers and v in topic.answers}
            kind = rng.choice(list(other) or ["what"])
            return self._careless(self.about(topic, kind, rng), rng), topic.answers[other.get(kind, kind)]
        if choice < 0.86:
            return self._careless(self.refused(rng), rng), self.sample.refusal
        if choice < 0.88:
            names = [topic.names for topic in self.sample.topics if topic.group in ("medicine", "nutrient")]
            names += [(name,) for name, group in self.names if group in ("medicine", "nutrient")]
            if names:
                return self._careless(ask("dose", rng.choice(rng.choice(names)), rng), rng), self.sample.dosing
        if not self.messages:
            return self._careless(self.refused(rng), rng), self.sample.refusal
        message, answer = rng.choice(self.messages)
        if rng.random() < 0.5:
            message = rng.choice(
                [message.lower(), message.rstrip("?.!"), misspell(message, rng), message.lower().rstrip("?.!")]
            )
        return message, answer

    # ---- conversations ----------------------------------------------------------------------------------------

    def conversation(self, rng: Random) -> tuple[tuple[str, str], ...]:
        """Two to five turns: on one topic, hopping between topics, after a greeting, after a refusal."""
        turns: list[tuple[str, str]] = []
        last: tuple[Topic, str] | None = None
        lost = False  # the turn before was a refusal: "it" now means nothing the demo knows
        for _ in range(rng.choices([2, 3, 4, 5], [66, 24, 7, 3])[0]):
            choice = rng.random()
            if turns and choice < 0.45 and (last or lost):
                turn, last = self._follow_up(rng, last, lost)
            elif turns and choice < 0.53 and last and not lost:
                turn, last = self._switch(rng, last)
            elif choice < 0.80:
                topic, kind = rng.choice(self.answers)
                if last and rng.random() < 0.3:
                    topic, kind = last[0], rng.choice(list(last[0].answers))
                turn, last, lost = (
                    (self._careless(self.about(topic, kind, rng), rng), topic.answers[kind]),
                    (topic, kind),
                    False,
                )
            elif choice < 0.90 or not self.messages:
                turn, lost = (self._careless(self.refused(rng), rng), self.sample.refusal), True
            else:
                turn = rng.choice(self.messages)
            turns.append(turn)
        return tuple(turns)

    def _follow_up(
        self, rng: Random, last: tuple[Topic, str] | None, lost: bool
    ) -> tuple[tuple[str, str], tuple[Topic, str] | None]:
        if lost or last is None:
            kind = rng.choice(GROUPS[rng.choice(list(GROUPS))])
            return (self._careless(sentence(rng.choice(follow_ups(kind))), rng), self.sample.refusal), last
        topic, before = last
        kind = rng.choice([k for k in topic.answers if k != before])
        return (self._careless(sentence(rng.choice(follow_ups(kind))), rng), topic.answers[kind]), (topic, kind)

    def _switch(self, rng: Random, last: tuple[Topic, str]) -> tuple[tuple[str, str], tuple[Topic, str]]:
        kind = last[1]
        topic = rng.choice([topic for topic, k in self.answers if k == kind])
        name = rng.choice(topic.names)
        question = rng.choice(SWITCHES).format(x=name.article + name.text, n=name.text)
        return (self._careless(question, rng), topic.answers[kind]), (topic, kind)

    # ---- the whole course -------------------------------------------------------------------------------------

    def lessons(self, count: int, rng: Random) -> Iterator[Lesson]:
        """`count` lessons; none holds a held-out name or a question of the check."""
        asked = {plain(probe.question) for probes in self.probes().values() for probe in probes if not probe.history}
        for _number in range(count):
            while True:
                if rng.random() < 0.08:
                    lesson = Lesson(self.conversation(rng), whole=rng.random() < 0.15)
                else:
                    question, answer = self.single(rng)
                    share = 0.03 if answer == self.sample.refusal else 0.16
                    lesson = Lesson(((question, answer),), whole=rng.random() < share)
                words = [plain(question) for question, _ in lesson.turns]
                if not any(self.leaks(text) for text in words) and not asked.intersection(words):
                    break
            yield lesson

    def probes(self) -> dict[str, list[Probe]]:
        """The questions of the check by their heading in metrics.json; the same ones every time."""
        rng, refusal = Random(2024), self.sample.refusal
        found: dict[str, list[Probe]] = {
            "phrasings": [],
            "new_forms": [],
            "held_out_topics": [],
            "qualified_topics": [],
            "follow_ups": [],
        }
        for topic, kind in self.answers:
            answer = topic.answers[kind]
            first = self.spared(topic, kind, rng)
            found["phrasings"].append(Probe(first, answer))
            for _ in range(20):
                second = self.spared(topic, kind, rng)
                if plain(second) != plain(first):
                    break
            found["phrasings"].append(Probe(careless(second, rng), answer))
            found["new_forms"].append(Probe(self.about(topic, kind, rng, held=True), answer))
        for name, group in self.held_names:
            for held in (False, True):
                question = ask(rng.choice(GROUPS[group]), name, rng, held)
                found["held_out_topics"].append(Probe(careless(question, rng) if held else question, refusal))
        found["held_out_topics"] += [Probe(question, refusal) for question in self.held_questions]
        pairs = [pair for pair in self.answers if pair[0].group in ("condition", "aid")]
        for topic, kind in rng.sample(pairs, min(len(pairs), 120)):
            question = self.about(topic, kind, rng).rstrip("?.! ")
            found["qualified_topics"].append(Probe(f"{question} {rng.choice(qualifiers(held_out=True))}?", refusal))
        for number in range(200):
            topic, kind = rng.choice(self.answers)
            asked = (careless(self.about(topic, kind, rng), rng), topic.answers[kind])
            if number % 5 == 4:  # another topic, after a refusal or after a first topic
                other, other_kind = rng.choice(self.answers)
                before = asked if number % 2 else (self.refused(rng), refusal)
                found["follow_ups"].append(
                    Probe(self.about(other, other_kind, rng, True), other.answers[other_kind], (before,))
                )
                continue
            history: tuple[tuple[str, str], ...] = (asked,)
            if number % 5 == 3:  # a topic before the topic
                other, other_kind = rng.choice(self.answers)
                history = ((self.about(other, other_kind, rng), other.answers[other_kind]), asked)
            next_kind = rng.choice([k for k in topic.answers if k != kind])
            question = rng.choice(follow_ups(next_kind, held_out=True))
            found["follow_ups"].append(Probe(sentence(question), topic.answers[next_kind], history))
        safety = [pair for pair in self.held_messages if _is_safety(pair[1])]
        found["small_talk"] = [Probe(m, a) for m, a in self.held_messages if (m, a) not in safety]
        found["safety"] = [Probe(m, a) for m, a in safety]
        for topic in self.sample.topics:
            if topic.group in ("medicine", "nutrient") and self.sample.dosing != refusal:
                found["safety"].append(Probe(ask("dose", topic.names[0], rng, True), self.sample.dosing))
        return found


def _is_safety(answer: str) -> bool:
    """Whether a reply sends to the emergency number; every one about somebody's own health does."""
    return "emergency number" in answer


def written_probes(sample: Sample) -> dict[str, list[Probe]]:
    """The questions that people wrote who knew none of our wordings. Raises `SampleError` when their file is broken."""
    from train.phrasing import parse_canonical
    from train.sample import QUESTIONS

    answers = {(topic.names[0].text, kind): text for topic in sample.topics for kind, text in topic.answers.items()}
    found: dict[str, list[Probe]] = {"written_questions": [], "written_declines": []}
    for row in read_rows(QUESTIONS, ("input", "question")):
        if row["question"]:
            kind, name = parse_canonical(row["question"])
            found["written_questions"].append(Probe(row["input"], answers[name.text, kind]))
        else:
            found["written_declines"].append(Probe(row["input"], sample.refusal))
    return found


def wordings(held_out_ones: bool) -> set[str]:
    """Every template of one side, for the test that holds the two sides apart."""
    from train.phrasing import CANONICAL

    kinds = [*CANONICAL, "told", "dose"]
    return {text for kind in kinds for text in templates(kind, held_out_ones)}
