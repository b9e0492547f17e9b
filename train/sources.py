"""Where rows come from: reading data sets row by row, what is wrong with a row, and the source a row belongs to."""

from __future__ import annotations

import csv
import glob
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from train.errors import TrainError
from train.sample import ANSWER, DECLINE, REPLY, plain

LOCAL = (".json", ".jsonl", ".csv", ".parquet")
ROLES = ("instruction", "input", "output")
LONGEST = 1_000_000
"""Characters from which a text is an accident rather than a question or an answer."""

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Source:
    """One of the collections that lavita's data set is made of, told apart by its instruction.

    `task_line`: the instruction only says "answer this", so the question is the input alone, as a visitor would type it.
    Otherwise (classify, choose, summarise) the input means nothing without it, and it stays a part of the question.
    `shared`: other data sets use the same words, so they name the source only among rows of other known sources.
    """

    name: str
    instruction: str
    licence: str
    task_line: bool = False
    shared: bool = False


SOURCES = (
    Source(
        "healthcaremagic",
        "If you are a doctor, please answer the medical questions based on the patient's description.",
        "not stated; consultations from healthcaremagic.com, collected for ChatDoctor",
        task_line=True,
        shared=True,
    ),
    Source(
        "flashcards-wikidoc",
        "Answer this question truthfully",
        "not stated as one; Anki flashcards and WikiDoc text, collected for MedAlpaca",
        task_line=True,
        shared=True,
    ),
    Source(
        "cord19",
        "Please summerize the given abstract to a title",
        "not stated; abstracts of CORD-19, each under its paper's licence",
    ),
    Source("medqa", "Please answer with one of the option in the bracket", "MIT (jind11/MedQA)"),
    Source(
        "health-advice",
        "Question: is this a 2) strong advice, 1) weak advice 0) no advice?",
        "not stated; sentences of PubMed abstracts (Yu et al., EMNLP-IJCNLP 2019)",
    ),
    Source(
        "pubmed-causal",
        "Question: Is this describing a (1) directly correlative relationship, (2) conditionally causative relationship, "
        "(3) causative relationship, or (0) no relationship.",
        "not stated; sentences of PubMed abstracts (Yu et al., EMNLP-IJCNLP 2019)",
    ),
)
"""Spelled as the published rows spell them, mistakes included."""

# MMLU's rows vary in their instruction but answer with a bare letter; MEDIQA puts the question itself there.
_LETTER = re.compile(r"\s*\(?[A-E]\)?[.:]?\s*")
_OPTIONS = re.compile(r"\bA\W.*\bB\W.*\bC\W", re.DOTALL)
LICENCES = {source.name: source.licence for source in SOURCES} | {
    "mmlu": "MIT (hendrycks/test)",
    "mediqa": "not stated; MEDIQA-AnS (Savery et al., Scientific Data 2020)",
    "sample": "MIT, as this project",
}
_BY_INSTRUCTION = {plain(source.instruction): source for source in SOURCES}
_OWN = {plain(instruction) for instruction in (ANSWER, REPLY, DECLINE)}
_SAYS_ANSWER = re.compile(r"\b(answer|reply|respond)\b", re.IGNORECASE)


class RawRow(NamedTuple):
    """The three columns of a well-formed row."""

    instruction: str
    input: str
    output: str


@dataclass
class Malformed:
    """What was wrong with rows that could not be used, with examples of it."""

    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, where: str, row: Any) -> None:
        """Count a row; the first three of a reason are kept as examples."""
        self.reasons[reason] += 1
        kept = self.examples.setdefault(reason, [])
        if len(kept) < 3:
            kept.append(f"{where}: {_short(row)}")


def _short(row: Any) -> str:
    """A row for the reader of a message: long texts cut, whatever is unprintable escaped."""
    if isinstance(row, Mapping):
        row = {str(k)[:40]: v[:60] + "…" if isinstance(v, str) and len(v) > 60 else v for k, v in row.items()}
    text = ascii(row[:200] if isinstance(row, str) else row)
    return text if len(text) <= 240 else text[:240] + "…"


class DataSet:
    """One entry of the recipe's `data`: REPOSITORY[:CONFIG][@REVISION], or a file or folder of this machine."""

    def __init__(self, spec: str, split: str, columns: tuple[str, ...]) -> None:
        self.spec, self.split, self.columns = spec, split, columns
        self.path = Path(spec)
        self.local = self.path.suffix.lower() in LOCAL
        self.licence = NOT_STATED
        self.revision = ""

    @property
    def name(self) -> str:
        """What its rows are called where their source is not known otherwise."""
        return self.path.stem if self.local else re.split("[:@]", self.spec)[0].rsplit("/", 1)[-1]

    @property
    def lavita(self) -> bool:
        """Whether it is the collection whose sources `SOURCES` lists."""
        return not self.local and self.spec.startswith(("lavita/medical-qa-datasets", "medalpaca/"))

    def rows(self, malformed: Malformed) -> Iterator[RawRow]:
        """The well-formed rows; the others go to `malformed`. Raises `TrainError` where it cannot be read at all."""
        for number, row in enumerate(self._read(), 1):
            checked = check(row, self.columns)
            if isinstance(checked, str):
                malformed.add(checked, f"row {number:,} of {self.name}", row)
            else:
                yield checked

    def _read(self) -> Iterator[Any]:
        from datasets.exceptions import DatasetsError
        from huggingface_hub.errors import HfHubHTTPError

        if self.local and not self.path.is_file():
            raise TrainError(f"There is no file {self.spec}; correct the recipe's data.")
        try:
            yield from self._local() if self.local else self._hub()
        except (DatasetsError, HfHubHTTPError, OSError, ValueError, csv.Error) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            advice = (
                "mend the file or leave it out"
                if self.local
                else "check the name, configuration, revision and split, the connection and, where it is gated, that you "
                "accepted its licence and set HF_TOKEN"
            )
            raise TrainError(f"{self.spec} could not be loaded ({lines[0][:300].rstrip('.')}); {advice}.") from error

    def _local(self) -> Iterator[Any]:
        kind = self.path.suffix.lower()
        if kind == ".parquet":
            yield from self._table(load("parquet", data_files=glob.escape(str(self.path)), streaming=True))
        elif kind == ".csv":
            yield from _csv(_lines(self.path, keep_linebreaks=True))
        elif kind == ".jsonl":
            yield from _json_lines(_lines(self.path))
        else:
            yield from _json(next(_lines(self.path, sample_by="document"), ""))

    def _hub(self) -> Iterator[Any]:
        rest, _, revision = self.spec.partition("@")
        repository, _, configuration = rest.partition(":")
        loaded = load(repository, configuration or None, split=self.split, revision=revision or None)
        info = getattr(loaded, "info", None)
        self.licence = str(getattr(info, "license", "") or NOT_STATED)
        found = re.search(r"@([0-9a-f]{40})", " ".join(getattr(info, "download_checksums", None) or {}))
        self.revision = found.group(1) if found else revision
        yield from self._table(loaded)

    def _table(self, loaded: Any) -> Iterator[dict[str, Any]]:
        for batch in loaded.iter(batch_size=1000):
            if missing := [column for column in self.columns if column and column not in batch]:
                raise TrainError(
                    f"{self.spec} has no column {missing[0]!r} but {', '.join(batch)}; name its instruction, input and "
                    "output in the recipe's columns ('' for one that it does not have)."
                )
            values = [batch[column] if column else None for column in self.columns]
            for index in range(len(next(iter(batch.values())))):
                yield {c: v[index] for c, v in zip(self.columns, values, strict=True) if v is not None}


def load(path: str, *arguments: Any, split: str = "train", **options: Any) -> Any:
    """`datasets.load_dataset`, which for a file of this machine too would tell a server elsewhere that a loader was used."""
    import datasets

    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    return datasets.load_dataset(path, *arguments, split=split, **options)


def _lines(path: Path, **options: Any) -> Iterator[str]:
    """Lines of a text file, so that one bad line costs one row: loaders of whole tables give up on the file."""
    loaded = load(
        "text",
        data_files=glob.escape(str(path)),
        streaming=True,
        encoding="utf-8-sig",
        encoding_errors="replace",
        **options,
    )
    for batch in loaded.iter(batch_size=1000):
        yield from batch["text"]


def _json_lines(lines: Iterable[str]) -> Iterator[Any]:
    for line in lines:
        if line.strip():
            try:
                yield json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                yield NotJson(line)


def _json(text: str) -> Iterator[Any]:
    """The rows of a JSON file: a list, an object that holds one list, or lines after all."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        yield from _json_lines(text.split("\n"))
        return
    lists = [item for item in value.values() if isinstance(item, list)] if isinstance(value, dict) else []
    yield from value if isinstance(value, list) else lists[0] if len(lists) == 1 else [value]


def _csv(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    for row in csv.DictReader(lines):
        # fields beyond the header's stand under None: the row was split at the wrong commas
        yield {} if None in row else row


class NotJson(str):
    """A line that is no JSON."""


def check(row: Any, columns: tuple[str, ...]) -> RawRow | str:
    """The row's three texts, or what is wrong with it. A column named '' does not exist and is empty."""
    if isinstance(row, NotJson):
        return "not JSON"
    if not isinstance(row, Mapping):
        return "not an object"
    values = []
    for role, column in zip(ROLES, columns, strict=True):
        value = row.get(column) if column else ""
        if not isinstance(value, str):
            return f"{role} is {_kind(value)}" if column in row else f"{role} is missing"
        if len(value) > LONGEST:
            return f"{role} is longer than {LONGEST:,} characters"
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in set(value)):
            return f"{role} holds a lone surrogate"
        values.append(value)
    return RawRow(*values)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list | tuple) else f"no text but {type(value).__name__}"


class Naming:
    """Which source each row of one data set belongs to, and what its question is.

    Needs all of the data set's instructions, as counts, because some only mean something together: an instruction that
    two data sets share names a source of lavita's among other such sources, and an instruction that never changes and only
    says "answer" (in whatever words) is a task line.
    """

    def __init__(self, data_set: DataSet, instructions: Counter[str]) -> None:
        self.data_set = data_set
        known = {plain(text) for text in instructions} & set(_BY_INSTRUCTION)
        self.mixed = data_set.lavita or len(known) > 1
        self.task_lines = {key for key in known if _BY_INSTRUCTION[key].task_line} | _OWN
        only = next(iter(instructions), "")
        if len(instructions) == 1 and plain(only) not in known and _SAYS_ANSWER.search(only):
            self.task_lines.add(plain(only))
        self.keys = {text: plain(text) for text in instructions}

    def source(self, row: RawRow) -> str:
        """The name of the row's source."""
        found = _BY_INSTRUCTION.get(self.keys[row.instruction])
        if found and (self.mixed or not found.shared):
            return found.name
        if not found and len(row.output) < 8 and _LETTER.fullmatch(row.output) and _OPTIONS.search(row.input):
            return "mmlu"
        if not found and self.data_set.lavita and row.input.strip():
            return "mediqa"
        return self.data_set.name

    def question(self, row: RawRow) -> str:
        """Instruction and input, or the input alone where the instruction is a task line."""
        if row.input.strip() and self.keys[row.instruction] in self.task_lines:
            return row.input
        return f"{row.instruction} {row.input}"


def licence(source: str, data_sets: Iterable[DataSet]) -> str:
    """The licence of a source, as far as its publisher states one."""
    if source in LICENCES:
        return LICENCES[source]
    return next((one.licence for one in data_sets if one.name == source), NOT_STATED)
