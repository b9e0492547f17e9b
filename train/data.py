"""From raw rows to run/data: load → clean → drop duplicates → draw → split → report.

Nothing here depends on the order of the rows, unless the recipe draws the first ones: rows are put into an order of
their content's hash before anything is chosen among them.

The recipe `seed` goes another way, that of the project it is named after: white space alone is cleaned, duplicates and
benchmark questions stay, the first rows are taken, and a shuffle splits them.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from train.clean import normalise, tidy, tidy_answer, words
from train.errors import TrainError
from train.parallel import over_batches
from train.recipe import Recipe
from train.report import Findings, Splits, write_report
from train.run import MADE_FROM, whole
from train.sources import DataSet, Malformed, Naming, RawRow, licence

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "validation", "test")
PERMUTATIONS = 64
SHINGLE = 3
"""Words in a row that are compared as one: single words would call two texts on one subject the same."""
TELLING_ANSWER = 20
"""Words from which an answer that stands on two sides of the split was copied rather than happens to be the same."""
BENCHMARK_RUN = 13
"""Words in a row shared with a benchmark's question that give it away (as in GPT-3's report, arXiv:2005.14165, app. C)."""


class Row(NamedTuple):
    """A clean row. `key` identifies it by its normalised question and answer, `data_set` is a place in `recipe.data`."""

    key: bytes
    question: str
    answer: str
    source: str
    data_set: int


def prepare(
    recipe: Recipe,
    run: Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    benchmarks: Collection[str] = (),
    made_from: str = "",
) -> None:
    """Make run/data: train, validation and test.parquet (question, answer, source), report.json and report.md with plots.

    With a tokenizer the report also says how much of an example `recipe.max_length` cuts off. Rows that overlap with
    `benchmarks`, their questions, are left out. The folder appears whole or not at all, with the fingerprint `made_from` in
    it. Raises `TrainError` for data that cannot be loaded, is malformed beyond `recipe.most_malformed` or leaves a split
    empty.
    """
    findings = Findings(recipe)
    rows = gather(recipe, findings)
    if recipe.cleaning == "full":
        asked = overlapping([row.question for row in rows], benchmarks)
        rows = _without(rows, asked, "overlap with a benchmark", findings)
        rows = drop_duplicates(rows, recipe, findings)
    rows = draw(rows, recipe, findings)
    splits = split(rows, recipe)
    for name, part in splits.items():
        if not part:
            raise TrainError(
                f"The {name} split is empty: {len(rows):,} rows are left of {findings.total:,}; "
                "use more data, or other splits, leave_out, min_characters and max_words in the recipe."
            )
    with whole(run / "data") as folder:
        folder.mkdir()
        for name, part in splits.items():
            _write(folder / f"{name}.parquet", part)
        write_report(folder, findings, _columns(splits), tokenizer)
        if made_from:
            (folder / MADE_FROM).write_text(made_from)


def gather(recipe: Recipe, findings: Findings) -> list[Row]:
    """The clean rows of all data sets, without the sources to leave out, in the order of their keys (or as they stood)."""
    rows: list[Row] = []
    malformed = findings.malformed
    data_sets = [DataSet(spec, recipe.data_split, recipe.columns) for spec in recipe.data]
    for index, data_set in enumerate(data_sets):
        rows += _clean(_load(data_set, malformed, findings), data_set, index, recipe, findings)
    _refuse_malformed(malformed, findings.total, recipe)
    if unknown := set(recipe.leave_out) - set(findings.by_source) - set(findings.known):
        raise TrainError(
            f"The recipe's leave_out names {min(unknown)!r}, but there are only {', '.join(sorted(findings.by_source))}."
        )
    findings.licences = {source: licence(source, data_sets) for source in findings.by_source}
    findings.revisions = {data_set.spec: data_set.revision for data_set in data_sets if data_set.revision}
    if recipe.draw == "random":
        rows.sort()
    return rows


def _load(data_set: DataSet, malformed: Malformed, findings: Findings) -> list[RawRow]:
    before = sum(malformed.reasons.values())
    same: dict[str, str] = {}  # instructions repeat: keep one copy of each
    raw = [
        row._replace(instruction=same.setdefault(row.instruction, row.instruction)) for row in data_set.rows(malformed)
    ]
    bad = sum(malformed.reasons.values()) - before
    findings.total += len(raw) + bad
    findings.count(data_set.name, "malformed", bad)
    return raw


def _refuse_malformed(malformed: Malformed, total: int, recipe: Recipe) -> None:
    bad = sum(malformed.reasons.values())
    if bad <= recipe.most_malformed * total:
        return
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in malformed.reasons.most_common())
    examples = "; ".join(malformed.examples[reason][0] for reason, _ in malformed.reasons.most_common(3))
    raise TrainError(
        f"{bad:,} of {total:,} rows are malformed, more than the {recipe.most_malformed:.0%} that the recipe's "
        f"most_malformed allows: {reasons}. For example {examples}. Mend them, or raise most_malformed."
    )


def _clean(raw: list[RawRow], data_set: DataSet, index: int, recipe: Recipe, findings: Findings) -> Iterator[Row]:
    naming = Naming(data_set, Counter(row.instruction for row in raw))
    raw.reverse()
    while raw:  # taken off the end, so that raw and clean text are never in memory together
        row = raw.pop()
        source = naming.source(row)
        if source in recipe.leave_out:
            findings.count(source, "source left out")
            continue
        if recipe.cleaning == "full":
            question = tidy(naming.question(row), findings.changed)
            answer = tidy_answer(tidy(row.output, findings.changed), question, findings.changed)
        else:
            question, answer = (" ".join(text.split()) for text in (f"{row.instruction} {row.input}", row.output))
        if reason := _unfit(question, answer, recipe):
            findings.drop(source, reason, question, answer)
            continue
        findings.count(source, "clean")
        yield Row(_key(question, answer), question, answer, source, index)


def _unfit(question: str, answer: str, recipe: Recipe) -> str:
    for name, text in (("question", question), ("answer", answer)):
        if len(text) < recipe.min_characters:
            return f"{name} under {recipe.min_characters} characters"
        if text.count(" ") >= recipe.max_words:
            return f"{name} over {recipe.max_words} words"
        if recipe.cleaning == "full" and "\ufffd" in text:
            return "text that could not be decoded"
    if recipe.cleaning == "spaces":
        return ""
    return "answer only repeats the question" if words(question) == words(answer) else ""


def _key(question: str, answer: str) -> bytes:
    text = " ".join(words(question)) + "\n" + " ".join(words(answer))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _without(rows: list[Row], drop: Collection[int], reason: str, findings: Findings) -> list[Row]:
    for index in drop:
        findings.drop(rows[index].source, reason, rows[index].question, rows[index].answer)
    return [row for index, row in enumerate(rows) if index not in drop] if drop else rows


def overlapping(questions: Sequence[str], benchmarks: Iterable[str]) -> set[int]:
    """Places of the questions that a benchmark asks too: the same words, or 13 of them in a row."""
    runs, exact = set[tuple[str, ...]](), set[str]()
    for question in benchmarks:
        tokens = words(question)
        exact.add(" ".join(tokens))
        runs.update(_runs(tokens))
    if not exact:
        return set()
    found = set()
    for index, question in enumerate(questions):
        tokens = words(question)
        if " ".join(tokens) in exact or any(run in runs for run in _runs(tokens)):
            found.add(index)
    return found


def _runs(tokens: list[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(tokens[start : start + BENCHMARK_RUN]) for start in range(len(tokens) - BENCHMARK_RUN + 1))


def drop_duplicates(rows: list[Row], recipe: Recipe, findings: Findings) -> list[Row]:
    """The rows without exact duplicates and, where the recipe asks for it, near ones, also across splits.

    Near is a Jaccard similarity of at least `recipe.near_duplicates` between sets of three words in a row: of question
    and answer together for duplicates; across splits of the questions or of the answers, if they are long enough to
    tell. There the row on the side of evaluation goes. Rows that are split by a shuffle have no sides yet.
    """
    first: dict[bytes, int] = {}
    exact = {index for index, row in enumerate(rows) if first.setdefault(row.key, index) != index}
    rows = _without(rows, exact, "exact duplicate", findings)
    if not recipe.near_duplicates or not rows:
        return rows
    texts = [(row.question, row.answer) for row in rows]
    questions, answers = np.concatenate(list(over_batches(_signatures, texts)), axis=1)
    near = _Near(np.minimum(questions, answers), texts, recipe.near_duplicates)
    drop = set[int]()
    for index in range(len(rows)):
        if near.found(index):
            drop.add(index)
        else:
            near.add(index)
    keep = [index for index in range(len(rows)) if index not in drop]
    rows, questions, answers = _without(rows, drop, "near duplicate", findings), questions[keep], answers[keep]
    if recipe.draw == "first":
        return rows
    across = _across_splits(rows, questions, answers, recipe)
    return _without(rows, across, "near duplicate on another side of the split", findings)


def _across_splits(rows: list[Row], questions: np.ndarray, answers: np.ndarray, recipe: Recipe) -> set[int]:
    sides = [side(row.question, recipe) for row in rows]
    telling = {index for index, row in enumerate(rows) if row.answer.count(" ") + 1 >= TELLING_ANSWER}
    by_question = _Near(questions, [(row.question,) for row in rows], recipe.near_duplicates)
    by_answer = _Near(answers, [(row.answer,) for row in rows], recipe.near_duplicates)
    drop = set[int]()
    for name in SPLITS:
        mine = [index for index, its in enumerate(sides) if its == name]
        if name != "train":
            drop |= {i for i in mine if by_question.found(i) or (i in telling and by_answer.found(i))}
        for index in mine:
            if index not in drop:
                by_question.add(index)
                by_answer.add(index)
    return drop


class _Near:
    """MinHash LSH: which row among those added is near to another one. Candidates are compared exactly.

    Signatures are datasketch's; its LSH keeps a Python set for every bucket, a gigabyte for these rows, so that the bands
    are arrays here and only values that occur twice get a bucket.
    """

    LAST = 64
    """Rows of a bucket that are compared, the newest: templates fill a bucket with thousands that are not near."""

    def __init__(self, signatures: np.ndarray, texts: Sequence[tuple[str, ...]], threshold: float) -> None:
        self.signatures, self.threshold = signatures, threshold
        self.bands = _bands(signatures, threshold)
        self.buckets: list[dict[int, list[int]]] = [{} for _ in range(self.bands.shape[1])]
        self.shared = self.bands != 0
        self.any_shared = self.shared.any(axis=1)
        self.shingles: Callable[[int], frozenset[int]] = lru_cache(20_000)(
            lambda index: frozenset().union(*(_shingles(text) for text in texts[index]))
        )

    def add(self, index: int) -> None:
        """Make a row one that others can be near to."""
        if self.any_shared[index]:
            for bucket, value in zip(self.buckets, self.bands[index].tolist(), strict=True):
                if value:
                    bucket.setdefault(value, []).append(index)

    def found(self, index: int) -> bool:
        """Whether an added row is near to this one."""
        if not self.any_shared[index]:
            return False
        candidates = sorted(
            {
                other
                for bucket, value in zip(self.buckets, self.bands[index].tolist(), strict=True)
                if value
                for other in bucket.get(value, ())[-self.LAST :]
            }
        )
        if not candidates:
            return False
        estimates = (self.signatures[candidates] == self.signatures[index]).mean(axis=1)
        likely = np.argsort(-estimates, kind="stable")
        return any(
            self._similarity(index, candidates[place]) >= self.threshold
            for place in likely
            if estimates[place] >= self.threshold - 0.2  # five standard errors of 64 permutations at 0.9
        )

    def _similarity(self, one: int, other: int) -> float:
        a, b = self.shingles(one), self.shingles(other)
        common = len(a & b)
        return common / max(1, len(a) + len(b) - common)


def _bands(signatures: np.ndarray, threshold: float) -> np.ndarray:
    """Band hashes, uint64 [rows, bands], 0 where no other row has the same: at the threshold, 97 % of pairs share one."""
    height = 1
    while height < 16 and 1 - (1 - threshold ** (height + 1)) ** (PERMUTATIONS // (height + 1)) >= 0.97:
        height += 1
    count = PERMUTATIONS // height
    factors = np.random.default_rng(0).integers(1, 2**63, (count, height), dtype=np.uint64) | np.uint64(1)
    bands = np.zeros((len(signatures), count), dtype=np.uint64)
    for band in range(count):
        part = signatures[:, band * height : (band + 1) * height].astype(np.uint64)
        values = (part * factors[band]).sum(axis=1, dtype=np.uint64)
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        bands[:, band] = np.where(counts[inverse] > 1, values | np.uint64(1), 0)
    return bands


def _signatures(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """MinHash signatures of questions and answers, uint32 [2, pairs, 64]."""
    from datasketch import MinHash

    minhash = MinHash(PERMUTATIONS, hashfunc=int, scheme="affine32")
    signatures = np.empty((2, len(pairs), PERMUTATIONS), dtype=np.uint32)
    for place, pair in enumerate(pairs):
        for part, text in enumerate(pair):
            minhash.clear()
            minhash.update_batch(_shingles(text))
            signatures[part, place] = minhash.hashvalues
    return signatures


class _WordHashes(dict[str, int]):
    def __missing__(self, word: str) -> int:
        value = self[word] = zlib.crc32(word.encode())
        return value


_WORD_HASHES = _WordHashes()
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


def _shingles(text: str) -> list[int]:
    """A 32-bit hash for every three words in a row; a shorter text is one shingle."""
    tokens = words(text)
    hashes = np.array([_WORD_HASHES[word] for word in tokens] + [1] * (SHINGLE - len(tokens)), dtype=np.uint64)
    rows = len(hashes) - SHINGLE + 1
    mixed = sum(hashes[place : place + rows] * _FACTORS[place] for place in range(SHINGLE))
    return (mixed >> np.uint64(32)).tolist()  # type: ignore[no-any-return, union-attr]


def draw(rows: list[Row], recipe: Recipe, findings: Findings) -> list[Row]:
    """`recipe.examples` of the rows, in the shares of `recipe.data_weights` where there are any."""
    order = list(range(len(rows)))
    if recipe.draw == "random":
        random.Random(recipe.seed).shuffle(order)
    pools: list[list[int]] = [[] for _ in recipe.data]
    for index in order:
        pools[rows[index].data_set if recipe.data_weights else 0].append(index)
    chosen = {index for pool, size in zip(pools, _sizes(pools, recipe), strict=True) for index in pool[:size]}
    for index, row in enumerate(rows):
        findings.count(row.source, "used" if index in chosen else "not drawn")
    return [row for index, row in enumerate(rows) if index in chosen]


def _sizes(pools: Sequence[Sequence[int]], recipe: Recipe) -> list[int]:
    """How many rows each data set gives. One that has too few shrinks the whole draw, so that the shares hold."""
    weights = recipe.data_weights or (1.0, *(0.0 for _ in pools[1:]))
    if min(weights) < 0 or not any(weights):
        raise TrainError(f"The recipe's data_weights are {weights!r} but must not be negative, nor all zero.")
    shares = [weight / sum(weights) for weight in weights]
    most = min(len(pool) / share for pool, share in zip(pools, shares, strict=True) if share)
    return [int(share * min(recipe.examples or most, most) + 1e-6) for share in shares]


def side(question: str, recipe: Recipe) -> str:
    """The split of a question, by a hash of its words alone: the same in every run, whatever the seed or other rows."""
    digest = hashlib.blake2b(normalise(question).encode(), digest_size=8, person=b"split").digest()
    place = int.from_bytes(digest, "big") / 2**64
    train, validation, _ = recipe.splits
    return "train" if place < train else "validation" if place < train + validation else "test"


def split(rows: Sequence[Row], recipe: Recipe) -> dict[str, list[Row]]:
    """The rows by split, in their order; the first ones shuffled, as the seed project did with NumPy's old generator."""
    if recipe.draw == "first":
        order = np.random.RandomState(recipe.seed).permutation(len(rows))
        train, validation = (int(len(rows) * share) for share in recipe.splits[:2])
        parts = np.split(order, [train, train + validation])
        return {name: [rows[index] for index in part] for name, part in zip(SPLITS, parts, strict=True)}
    splits: dict[str, list[Row]] = {name: [] for name in SPLITS}
    for row in rows:
        splits[side(row.question, recipe)].append(row)
    return splits


def _columns(splits: dict[str, list[Row]]) -> Splits:
    return {name: [(row.question, row.answer, row.source) for row in part] for name, part in splits.items()}


def _write(path: Path, rows: Sequence[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [getattr(row, name) for row in rows] for name in ("question", "answer", "source")}
    pq.write_table(pa.table(columns), path, compression="zstd")
