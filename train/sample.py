"""Our own small data set, `sample.jsonl`, read as what it is: topics, replies to small talk, and what lies outside."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from train.phrasing import Name, parse_canonical

SAMPLE = Path(__file__).with_name("sample.jsonl")
QUESTIONS = Path(__file__).with_name("questions.jsonl")
ANSWER = "Answer this health question for a general reader."
REPLY = "Reply to this message."
DECLINE = "Say that this is outside the topics of the demo."

GROUPS: dict[str, tuple[str, ...]] = {
    "aid": ("what", "symptoms", "steps", "prevention", "doctor"),
    "test": ("what", "why", "prepare", "during", "results"),
    "nutrient": ("what", "need", "sources", "deficiency", "excess"),
    "medicine": ("what", "uses", "how", "effects", "care"),
    "condition": ("what", "symptoms", "causes", "treatment", "prevention", "doctor"),
}
"""The kinds of question asked about each group of topics; the second tells the groups with other kinds apart."""


class SampleError(ValueError):
    """The data set is missing or malformed; the sentence says where."""


@dataclass(frozen=True)
class Topic:
    """A topic: its names, the main one first, and one answer per kind of question."""

    names: tuple[Name, ...]
    answers: dict[str, str]

    @property
    def group(self) -> str:
        """The group whose kinds of question it answers; "condition" covers plain symptoms too."""
        marks = {"steps": "aid", "why": "test", "need": "nutrient", "uses": "medicine"}
        return next((group for kind, group in marks.items() if kind in self.answers), "condition")


@dataclass
class Sample:
    """The data set in parts."""

    topics: list[Topic] = field(default_factory=list)
    replies: dict[str, list[str]] = field(default_factory=dict)
    """An answer → the messages that get it."""
    declined: list[tuple[Name, str]] = field(default_factory=list)
    """Names outside the topics, each with its group."""
    declined_questions: list[str] = field(default_factory=list)
    """Whole questions that are about no name at all."""
    refusal: str = ""

    @property
    def dosing(self) -> str:
        """The reply to "how much should I take": the one given to the most messages that begin so."""
        counts = {
            answer: sum(bool(re.match(r"how (much|many)\b", m.lower())) for m in messages)
            for answer, messages in self.replies.items()
        }
        return max(counts, key=lambda answer: counts[answer]) if any(counts.values()) else self.refusal


def plain(text: str) -> str:
    """`text` reduced to its lower-case words, for comparing; itself where it has none."""
    return " ".join(re.findall(r"[^\W_]+", text.lower())) or text.strip()


def held_out(text: str, one_in: int = 5) -> bool:
    """Whether a name or message belongs to the share that is never trained on; decided by a hash of its words."""
    key = re.sub(r"e?s\b", "", plain(text))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % one_in == 0


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a JSONL file. Raises `SampleError` with the line at fault."""
    if not path.is_file():
        raise SampleError(f"{path} is missing; restore it from the repository (git checkout -- train/{path.name}).")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SampleError(f"{path}, line {number}: not JSON ({error}).") from error
        if not isinstance(row, dict) or set(row) != set(columns) or not all(isinstance(v, str) for v in row.values()):
            raise SampleError(f"{path}, line {number}: the columns must be {', '.join(columns)}, all text.")
        rows.append(row)
    return rows


def read(path: Path = SAMPLE) -> Sample:
    """The data set at `path`. Raises `SampleError` where it is missing, malformed or contradicts itself."""
    sample, names, answers = Sample(), dict[str, list[Name]](), dict[str, dict[str, str]]()
    for row in read_rows(path, ("instruction", "input", "output")):
        question, output = row["input"], row["output"]
        if row["instruction"] == ANSWER:
            try:
                kind, name = parse_canonical(question)
            except ValueError as error:
                raise SampleError(f"{path}: {error}.") from error
            if kind == "what":
                names.setdefault(output, []).append(name)
            if kind != "what" or len(names[output]) == 1:
                answers.setdefault(name.text, {})[kind] = output
        elif row["instruction"] == REPLY:
            sample.replies.setdefault(output, []).append(question)
        elif row["instruction"] == DECLINE:
            if sample.refusal not in ("", output):
                raise SampleError(f"{path}: there must be one refusal, but {question!r} has another.")
            sample.refusal = output
            try:
                kind, name = parse_canonical(question)
            except ValueError:
                sample.declined_questions.append(question)
            else:
                group = next((g for g, kinds in GROUPS.items() if kind in kinds[1:] and g != "aid"), "condition")
                sample.declined.append((Name.guess(name.text), group))
        else:
            raise SampleError(f"{path}: unknown instruction {row['instruction']!r}.")
    for what, group_names in names.items():
        sample.topics.append(Topic(tuple(group_names), answers.pop(group_names[0].text)))
        if sample.topics[-1].answers["what"] != what or len(sample.topics[-1].answers) < 2:
            raise SampleError(f"{path}: the topic {group_names[0].text!r} is incomplete.")
    if answers:
        raise SampleError(f"{path}: no 'What is' row for {', '.join(answers)}.")
    if not (sample.topics and sample.refusal):
        raise SampleError(f"{path}: it holds no topics or no refusal.")
    return sample
