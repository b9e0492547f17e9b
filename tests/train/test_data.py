"""From raw rows to run/data: what is kept, what is dropped and why, and that nothing depends on the order of rows."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from train.clean import normalise, personal, tidy, tidy_answer, words
from train.data import SPLITS, overlapping, prepare, side
from train.errors import TrainError
from train.recipe import Recipe, read
from train.sample import SAMPLE
from train.sources import DataSet, Naming, RawRow, check

SHARED = Path(__file__).parents[3] / "shared" / "data"
ANSWER = "Answer this question truthfully"
DOCTOR = "If you are a doctor, please answer the medical questions based on the patient's description."
TITLE = "Please summerize the given abstract to a title"


def text(number: int, length: int) -> str:
    """Words that no other number's text shares in this order."""
    return " ".join(random.Random(number).choices([f"w{n}" for n in range(5000)], k=length))


def row(number: int, instruction: str = ANSWER) -> dict[str, str]:
    return {
        "instruction": instruction,
        "input": f"What is {text(number, 6)}?",
        "output": text(-1 - number, 40).capitalize(),
    }


def jsonl(path: Path, rows: Iterable[Any]) -> str:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in rows))
    return str(path)


def prepared(tmp_path: Path, data: Iterable[Any] | str, **options: Any) -> tuple[dict[str, list[dict[str, str]]], Any]:
    """The splits and the report of a run over `data`."""
    file = data if isinstance(data, str) else jsonl(tmp_path / "rows.jsonl", data)
    prepare(Recipe(data=(file,), examples=options.pop("examples", 0), **options), tmp_path / "run")
    return splits(tmp_path / "run"), report(tmp_path / "run")


def splits(run: Path) -> dict[str, list[dict[str, str]]]:
    return {name: pq.read_table(run / "data" / f"{name}.parquet").to_pylist() for name in SPLITS}


def report(run: Path) -> Any:
    return json.loads((run / "data" / "report.json").read_text())


def everything(parts: Mapping[str, list[dict[str, str]]]) -> list[dict[str, str]]:
    return [one for part in parts.values() for one in part]


def apart(sets: list[set[str]]) -> bool:
    return len(set().union(*sets)) == sum(map(len, sets))


ROWS = [row(number) for number in range(300)]


# the outcome


def test_a_run_leaves_three_splits_a_report_and_plots(tmp_path):
    parts, found = prepared(tmp_path, ROWS)
    assert {path.name for path in (tmp_path / "run" / "data").iterdir()} == {
        *(f"{name}.parquet" for name in SPLITS),
        *("report.json", "report.md", "sources.png", "dropped.png", "words.png"),
    }
    assert set(parts["train"][0]) == {"question", "answer", "source"}
    assert found["splits"] == {name: len(part) for name, part in parts.items()}
    assert len(everything(parts)) == 300
    assert 0.6 < len(parts["train"]) / 300 < 0.8


def test_every_row_has_one_fate(tmp_path):
    rows = [*ROWS, ROWS[0], row(1000, TITLE), {"instruction": ANSWER, "input": "Short", "output": "no"}, "oops\n"]
    _, found = prepared(tmp_path, rows, examples=100, leave_out=("cord19",))
    assert found["rows"] == 304
    assert sum(found["fates"].values()) == 304
    assert (
        sum(count for fates in found["sources"].values() for count in fates.values() if isinstance(count, int)) == 304
    )
    assert found["fates"] == {"used": 100, "not drawn": 200, "dropped": 2, "malformed": 1, "source left out": 1}
    assert sum(found["dropped"].values()) == 2


def test_a_failing_run_leaves_what_was_there(tmp_path):
    prepared(tmp_path, ROWS)
    before = sorted((path.name, path.read_bytes()) for path in (tmp_path / "run" / "data").iterdir())
    with pytest.raises(TrainError):
        prepared(tmp_path, ["oops\n"])
    assert sorted((path.name, path.read_bytes()) for path in (tmp_path / "run" / "data").iterdir()) == before
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["data"]


def test_a_split_without_rows_is_refused(tmp_path):
    with pytest.raises(TrainError, match="split is empty"):
        prepared(tmp_path, ROWS[:2])


def test_markdown_in_the_data_does_not_become_markdown_of_the_report(tmp_path):
    rows = [{**one, "output": f"| # [link](http://x.org) `code` {one['output']}"} for one in ROWS]
    prepared(tmp_path, rows)
    assert "[link]" not in (tmp_path / "run" / "data" / "report.md").read_text()


# order, draw and split


@pytest.mark.parametrize("options", [{}, {"examples": 120}, {"near_duplicates": 0.0, "examples": 50}])
def test_the_order_of_rows_changes_nothing(tmp_path, options):
    rows = [*ROWS, *({**one, "input": one["input"].upper()} for one in ROWS[:50]), *ROWS[100:120]]
    rows += [{**one, "output": one["output"] + " again"} for one in ROWS[:40]]
    first, found = prepared(tmp_path, rows, **options)
    random.Random(1).shuffle(rows)
    second, again = prepared(tmp_path, rows, **options)
    assert first == second
    assert found["dropped"] == again["dropped"]


def test_no_normalised_question_stands_on_two_sides(tmp_path):
    rows = [{**one, "input": variant, "output": one["output"] + extra} for one in ROWS for variant, extra in (
        (one["input"], ""), (one["input"].upper(), " and so it goes on"), ("  " + one["input"].replace(" ", " , "), " or not"),
    )]  # fmt: skip
    parts, _ = prepared(tmp_path, rows, near_duplicates=0.0)
    asked = [{normalise(one["question"]) for one in part} for part in parts.values()]
    assert len(everything(parts)) == 900
    assert apart(asked)


def test_a_question_stays_on_its_side_whatever_the_seed_and_the_other_rows(tmp_path):
    one, two = Recipe(seed=1), Recipe(seed=2, examples=10)
    assert [side(r["input"], one) for r in ROWS] == [side(r["input"].lower() + " ", two) for r in ROWS]


def test_the_seed_decides_the_draw(tmp_path):
    drawn = [everything(prepared(tmp_path, ROWS, examples=100, seed=seed)[0]) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(part) for part in drawn] == [100] * 3


def test_the_first_rows_can_be_taken_instead(tmp_path):
    parts, _ = prepared(tmp_path, ROWS, examples=100, draw="first")
    assert {one["question"] for one in everything(parts)} == {one["input"] for one in ROWS[:100]}


def test_the_seed_recipe_takes_splits_and_cleans_as_the_original_notebook(tmp_path):
    """Held against the notebook's own few lines."""
    rows = [{**row(n, DOCTOR), "output": row(n)["output"] + " &amp;  so\ton"} for n in range(120)]
    rows[3:3] = [rows[0], {"instruction": ANSWER, "input": "Short?", "output": "no"}, row(900, TITLE)]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    prepare(replace(read("seed"), data=(data,), examples=100), tmp_path / "run", benchmarks=[rows[5]["input"]])
    parts = splits(tmp_path / "run")

    passing = []
    for one in rows:
        question, answer = " ".join(f"{one['instruction']} {one['input']}".split()), " ".join(one["output"].split())
        fits = min(len(question), len(answer)) >= 10 and max(len(question.split()), len(answer.split())) <= 500
        if fits and len(passing) < 100:
            passing.append((question, answer))
    np.random.seed(42)
    order = np.random.permutation(len(passing))
    for name, places in (("train", order[:70]), ("validation", order[70:85]), ("test", order[85:])):
        assert [(one["question"], one["answer"]) for one in parts[name]] == [passing[place] for place in places]


def test_weights_decide_the_shares_of_data_sets(tmp_path):
    one, two = jsonl(tmp_path / "one.jsonl", ROWS[:200]), jsonl(tmp_path / "two.jsonl", ROWS[200:])
    for examples, expected in ((80, (20, 60)), (0, (33, 100))):  # all: as many as the shares allow
        prepare(Recipe(data=(one, two), data_weights=(1, 3), examples=examples), tmp_path / "run")
        sources = [row["source"] for row in everything(splits(tmp_path / "run"))]
        assert (sources.count("one"), sources.count("two")) == expected


def test_a_row_of_two_data_sets_is_used_once(tmp_path):
    one, two = jsonl(tmp_path / "one.jsonl", ROWS), jsonl(tmp_path / "two.jsonl", ROWS[:100])
    prepare(Recipe(data=(one, two), examples=0), tmp_path / "run")
    assert len(everything(splits(tmp_path / "run"))) == 300


# questions and sources


def test_a_task_line_is_no_part_of_the_question(tmp_path):
    for instruction in (ANSWER, DOCTOR, "Reply to this message.", "Give a good answer to what this patient asks."):
        parts, _ = prepared(tmp_path, [row(number, instruction) for number in range(50)])
        assert all(one["question"].startswith("What is w") for one in everything(parts)), instruction


def test_our_own_sample_is_asked_as_visitors_ask():
    first = json.loads(SAMPLE.read_text().splitlines()[0])
    data_set = DataSet("train/sample.jsonl", "train", ("instruction", "input", "output"))
    naming = Naming(data_set, Counter({first["instruction"]: 2, "Reply to this message.": 1}))
    assert naming.question(RawRow(**first)) == first["input"]


@pytest.mark.parametrize("instruction", ["Classify the sentence.", "Summarise this conversation.", TITLE])
def test_an_instruction_that_the_input_needs_stays(tmp_path, instruction):
    parts, _ = prepared(tmp_path, [row(number, instruction) for number in range(50)], leave_out=())
    assert all(one["question"].startswith(instruction) for one in everything(parts))


def test_an_instruction_that_differs_between_rows_is_the_question(tmp_path):
    rows = [{"instruction": one["input"], "input": "", "output": one["output"]} for one in ROWS]
    parts, _ = prepared(tmp_path, rows)
    assert {one["question"] for one in everything(parts)} == {one["input"] for one in ROWS}


def test_sources_of_a_mix_are_told_apart_and_can_be_left_out(tmp_path):
    mmlu = {"instruction": "Choose.", "input": "Which one? A: this B: that C: those D: none", "output": "B"}
    rows = [*ROWS, *(row(n, DOCTOR) for n in range(400, 450)), *(row(n, TITLE) for n in range(500, 520)), mmlu]
    parts, found = prepared(tmp_path, rows, leave_out=("cord19", "mmlu"))
    assert {one["source"] for one in everything(parts)} == {"flashcards-wikidoc", "healthcaremagic"}
    assert found["sources"]["cord19"]["source left out"] == 20
    assert found["sources"]["mmlu"]["source left out"] == 1
    assert all(fates["licence"] for fates in found["sources"].values())


def test_a_file_whose_instruction_others_use_too_keeps_its_own_name(tmp_path):
    parts, _ = prepared(tmp_path, ROWS)
    assert {one["source"] for one in everything(parts)} == {"rows"}


def test_leaving_out_a_source_that_does_not_exist_is_a_mistake(tmp_path):
    with pytest.raises(TrainError, match="'cord-19'"):
        prepared(tmp_path, ROWS, leave_out=("cord-19",))


# cleaning


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ("a \t b\u00a0c\r\n", "a b c", None),
        ("itâ€™s 101 Â°F", "it’s 101 °F", "mojibake"),
        ("naïve — 5 µg", "naïve — 5 µg", None),
        ("3 &lt; 4 &amp; 5&nbsp;mg", "3 < 4 & 5 mg", "HTML entities"),
        ("take<br/>two <b>pills</b>", "take two pills", "HTML tags"),
        ("if a<b and c>d", "if a<b and c>d", None),
        ("good<end_of_turn> <start_of_turn>model", "good model", "control tokens"),
        ("<|im_end|>yes [INST]", "yes", "control tokens"),
        ("so\u200bft\u00ad hy\x00phen", "soft hyphen", "invisible characters"),
    ],
)
def test_text_is_tidied(before, after, what):
    changed = Counter[str]()
    assert tidy(before, changed) == after
    assert changed == ({what: 1} if what else {})
    assert tidy(after, Counter()) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Hi, thanks for contacting chatbot. You have a cold.", "You have a cold."),
        ("Hello, welcome to Chat Doctor forum. rest and drink.", "Rest and drink."),
        ("Thank you for asking on Chat Doctor You need rest.", "You need rest."),
        ("Rest well. Thanks for using Chat Doctor. See you.", "Rest well. See you."),
        ("Drink water. Regards, Chat Doctor.", "Drink water."),
        ("Hi there. Rest, and thank your doctor.", "Hi there. Rest, and thank your doctor."),
        ("A chatbot cannot examine you. See a doctor.", "A chatbot cannot examine you. See a doctor."),
    ],
)
def test_boilerplate_goes_and_the_answer_stays(before, after):
    assert tidy_answer(before, "What do I have?", Counter()) == after


def test_an_answer_does_not_repeat_its_question(tmp_path):
    assert tidy_answer("What is gout? Gout is a disease.", "What is gout?", Counter()) == "Gout is a disease."
    assert tidy_answer("What is gout?", "What is gout?", Counter()) == "What is gout?"
    rows = [*ROWS, {"instruction": ANSWER, "input": "What is this gout?", "output": "what is this Gout"}]
    assert prepared(tmp_path, rows)[1]["dropped"] == {"answer only repeats the question": 1}


def test_too_short_and_too_long_rows_are_dropped(tmp_path):
    long = text(9, 501)
    rows = [
        {"instruction": ANSWER, "input": "What?", "output": text(1, 20)},
        {"instruction": ANSWER, "input": "What is a rash?", "output": "Redness."},
        {"instruction": ANSWER, "input": long, "output": text(2, 20)},
        {"instruction": ANSWER, "input": "What is a fever?", "output": long},
        {"instruction": ANSWER, "input": "What is a cough?", "output": " ".join(long.split()[:500])},
    ]
    parts, found = prepared(tmp_path, [*ROWS, *rows])
    assert found["dropped"] == {
        f"{column} {limit}": 1
        for column in ("question", "answer")
        for limit in ("under 10 characters", "over 500 words")
    }
    assert any(one["question"] == "What is a cough?" for one in everything(parts))


def test_personal_details_are_counted(tmp_path):
    assert personal("Call 555-123-4567 or write to a.b@c.org, Mr. Smith.") == [
        "e-mail address",
        "name with a title",
        "phone number",
    ]
    assert personal("Take 500 mg 2-3 times a day for 10 days; 120/80 mmHg in 1998.") == []
    rows = [*ROWS, {**ROWS[0], "input": "Is 555-123-4567 the number to call?"}]
    assert prepared(tmp_path, rows)[1]["personal"] == {"phone number": 1}


@pytest.mark.parametrize("sentence", ["What's (a) Rash_2?", "Où est l’école? β-blockers", "", "???", "İstanbul ß"])
def test_words_are_those_of_the_normalised_text(sentence):
    assert words(sentence) == normalise(sentence).split() or sentence == "???"


# duplicates


def test_duplicates_are_dropped_exact_and_near(tmp_path):
    changed = {**ROWS[1], "output": ROWS[1]["output"].rsplit(" ", 1)[0] + " other"}
    spelled = {**ROWS[2], "input": ROWS[2]["input"].upper() + "!!"}
    parts, found = prepared(tmp_path, [*ROWS, ROWS[0], changed, spelled])
    assert found["dropped"] == {"exact duplicate": 2, "near duplicate": 1}
    assert len(everything(parts)) == 300


def test_with_near_duplicates_0_only_exact_ones_are_dropped(tmp_path):
    changed = {**ROWS[1], "output": ROWS[1]["output"].rsplit(" ", 1)[0] + " other"}
    assert prepared(tmp_path, [*ROWS, ROWS[0], changed], near_duplicates=0.0)[1]["dropped"] == {"exact duplicate": 1}


def test_similarity_is_measured_against_the_threshold(tmp_path):
    rows = [{**one, "output": text(number, 200)} for number, one in enumerate(ROWS)]
    for share, near in ((0.02, True), (0.10, False)):
        copies = []
        for one in rows[:100]:  # every changed word changes three runs of three words
            tokens = one["output"].split()
            for place in range(0, 200, round(1 / share)):
                tokens[place] = "new"
            copies.append({**one, "output": " ".join(tokens)})
        dropped = prepared(tmp_path, [*rows, *copies], near_duplicates=0.85)[1]["dropped"].get("near duplicate", 0)
        assert dropped >= 97 if near else dropped == 0


def test_no_question_or_answer_of_training_comes_back_in_evaluation(tmp_path):
    long = [{"instruction": ANSWER, "input": text(n, 60), "output": text(-n - 1, 60)} for n in range(300)]
    asked_again = [
        {**one, "input": one["input"] + " please", "output": text(5000 + n, 60)} for n, one in enumerate(long)
    ]
    answered_again = [{**one, "input": text(7000 + n, 60)} for n, one in enumerate(long)]
    parts, found = prepared(tmp_path, [*long, *asked_again, *answered_again])
    assert found["dropped"]["near duplicate on another side of the split"] > 100
    for column in ("question", "answer"):
        heads = [{" ".join(one[column].split()[:50]) for one in part} for part in parts.values()]
        assert apart(heads), column


def test_rows_that_a_benchmark_asks_are_left_out(tmp_path):
    asked = normalise(ROWS[0]["input"])
    vignette = text(1, 30)
    rows = [*ROWS, {"instruction": ANSWER, "input": f"{vignette} What now?", "output": text(2, 30)}]
    file = jsonl(tmp_path / "rows.jsonl", rows)
    prepare(Recipe(data=(file,), examples=0), tmp_path / "run", benchmarks=[asked, f"In short: {vignette}"])
    assert report(tmp_path / "run")["dropped"] == {"overlap with a benchmark": 2}
    assert overlapping(["What is gout?", "What is gout and how is it treated?"], ["what is gout"]) == {0}


# malformed rows

BROKEN = [
    ({"instruction": ANSWER, "input": "What is gout?"}, "output is missing"),
    ({"instruction": ANSWER, "input": "What is gout?", "output": None}, "output is null"),
    ({"instruction": ANSWER, "input": 7, "output": "A disease."}, "input is a number"),
    ({"instruction": ANSWER, "input": 7.5, "output": "A disease."}, "input is a number"),
    ({"instruction": True, "input": "What is gout?", "output": "A disease."}, "instruction is true or false"),
    ({"instruction": ANSWER, "input": ["What is gout?"], "output": "A disease."}, "input is a list"),
    ({"instruction": ANSWER, "input": {"text": "What?"}, "output": "A disease."}, "input is no text but dict"),
    ({"instruction": ANSWER, "input": "What is gout?", "output": "x" * 10_000_000}, "output is longer than 1,000,000 characters"),
    ({"instruction": ANSWER, "input": "What is gout? \ud83d", "output": "A disease."}, "input holds a lone surrogate"),
    ("not json at all\n", "not JSON"),
    ('{"instruction": "cut o\n', "not JSON"),
    ("[" * 100_000 + "\n", "not JSON"),
    ("[1, 2]\n", "not an object"),
    ("null\n", "not an object"),
]  # fmt: skip


def test_malformed_rows_are_counted_by_reason_and_skipped(tmp_path):
    rows: list[Any] = [*ROWS, *(broken for broken, _ in BROKEN), "\n", "  \n"]
    random.Random(3).shuffle(rows)
    parts, found = prepared(tmp_path, rows)
    expected: dict[str, int] = {}
    for _, reason in BROKEN:
        expected[reason] = expected.get(reason, 0) + 1
    assert found["malformed"] == expected
    assert found["rows"] == 300 + len(BROKEN)
    assert len(everything(parts)) == 300
    examples = [example for several in found["malformed_examples"].values() for example in several]
    assert all(example.startswith("row ") and len(example) < 300 for example in examples)


def test_too_many_malformed_rows_stop_the_run_with_examples(tmp_path):
    rows = [*ROWS, *([{"instruction": ANSWER, "input": "What is gout?", "output": None}] * 30)]
    with pytest.raises(TrainError) as caught:
        prepared(tmp_path, rows)
    message = str(caught.value)
    assert "30 of 330 rows are malformed" in message
    assert "output is null (30)" in message
    assert "row 301 of rows" in message
    assert "What is gout?" in message
    assert "\n" not in message
    assert prepared(tmp_path, rows, most_malformed=0.1)[1]["malformed"] == {"output is null": 30}


def test_a_column_that_is_not_there_can_be_named_empty():
    assert check({"q": "Why?", "a": "So."}, ("", "q", "a")) == ("", "Why?", "So.")
    assert check({"q": "Why?"}, ("", "q", "a")) == "output is missing"


# where rows come from


def write(path: Path, rows: list[dict[str, str]]) -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.stem == "object":
        path.write_text(json.dumps({"version": 1, "data": rows}))
    else:
        path.write_text(json.dumps(rows, indent=1))
    return str(path)


@pytest.mark.parametrize("name", ["list.json", "object.json", "rows.csv", "rows.parquet", "odd [name] ü.json"])
def test_local_files_of_every_kind_are_the_same_rows(tmp_path, name):
    rows = [*ROWS, {"instruction": ANSWER, "input": 'Is "NA",\nor null, an α?', "output": text(1, 30)}]
    expected = everything(prepared(tmp_path, rows)[0])
    got = everything(prepared(tmp_path, write(tmp_path / name, rows))[0])
    assert [(one["question"], one["answer"]) for one in got] == [(one["question"], one["answer"]) for one in expected]


def test_columns_are_mapped(tmp_path):
    rows = [{"Q": one["input"], "A": one["output"], "other": "x"} for one in ROWS]
    for name in ("rows.csv", "rows.parquet", "list.json"):
        parts, _ = prepared(tmp_path, write(tmp_path / name, rows), columns=("", "Q", "A"))
        assert {one["question"] for one in everything(parts)} == {one["input"] for one in ROWS}


def test_a_table_without_the_columns_says_which_it_has(tmp_path):
    file = write(tmp_path / "rows.parquet", [{"Q": one["input"], "A": one["output"]} for one in ROWS])
    with pytest.raises(TrainError, match="no column 'instruction' but Q, A"):
        prepared(tmp_path, file)


def test_a_table_with_nulls_and_numbers_counts_them(tmp_path):
    table = pa.table({"q": [*(one["input"] for one in ROWS), None], "a": [*(one["output"] for one in ROWS), "x"]})
    pq.write_table(table, tmp_path / "rows.parquet")
    found = prepared(tmp_path, str(tmp_path / "rows.parquet"), columns=("", "q", "a"))[1]
    assert found["malformed"] == {"input is null": 1}
    pq.write_table(pa.table({"q": ["What is it?"], "a": [1]}), tmp_path / "rows.parquet")
    with pytest.raises(TrainError, match="output is a number"):
        prepared(tmp_path, str(tmp_path / "rows.parquet"), columns=("", "q", "a"))


def test_bad_lines_of_a_csv_cost_a_row_each(tmp_path):
    file = Path(write(tmp_path / "rows.csv", ROWS))
    with file.open("ab") as end:
        end.write(b"one,two,three,four\r\nonly one\r\nAnswer,What is caf\xe9?,Nothing much at all\r\n")
    found = prepared(tmp_path, str(file))[1]
    assert found["malformed"] == {"instruction is missing": 1, "input is null": 1}
    assert found["dropped"] == {"text that could not be decoded": 1}


def test_a_missing_an_empty_and_a_broken_file_are_one_sentence(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but no more")
    for name in ("missing.jsonl", "empty.jsonl", "broken.parquet"):
        with pytest.raises(TrainError) as caught:
            prepared(tmp_path, str(tmp_path / name))
        assert "\n" not in str(caught.value)
        assert "Traceback" not in str(caught.value)


def test_a_hub_data_set_is_asked_for_by_name_configuration_revision_and_split(tmp_path, monkeypatch):
    import datasets

    asked = {}

    def load_dataset(*arguments: Any, **options: Any) -> Any:
        asked.update(arguments=arguments, **options)
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    parts, found = prepared(tmp_path, "lavita/medical-qa-datasets:all-processed@abc123", data_split="train[:10%]")
    assert asked == {
        "arguments": ("lavita/medical-qa-datasets", "all-processed"), "split": "train[:10%]", "revision": "abc123",
    }  # fmt: skip
    assert {one["source"] for one in everything(parts)} == {"flashcards-wikidoc"}
    assert list(found["revisions"].values()) == ["abc123"]


def test_a_streamed_data_set_works_as_well(tmp_path, monkeypatch):
    import datasets

    streamed = datasets.Dataset.from_list(ROWS).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: streamed)
    assert len(everything(prepared(tmp_path, "someone/streamed")[0])) == 300


def test_a_folder_is_a_data_set_too(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "train.parquet", ROWS)
    assert len(everything(prepared(tmp_path, str(folder))[0])) == 300


def test_a_data_set_that_cannot_be_had_says_what_to_check(tmp_path, monkeypatch):
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    def gated(*_: Any, **__: Any) -> None:
        raise DatasetNotFoundError("Dataset 'x/y' is a gated dataset on the Hub.\nMore.")

    monkeypatch.setattr(datasets, "load_dataset", gated)
    with pytest.raises(TrainError, match=r"gated dataset on the Hub.*HF_TOKEN") as caught:
        prepared(tmp_path, "x/y")
    assert "\n" not in str(caught.value)


# real data


@pytest.mark.parametrize(
    "name",
    [
        "aci_bench", "genmedgpt5k", "medquad_dev", "mts_dialog", "ncbi_disease_title", "pubmed_causal", "wikidoc_patient",
    ],
)  # fmt: skip
def test_every_file_of_the_shared_data_is_prepared_and_explained(tmp_path, name):
    file = SHARED / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip("../shared/data is not here")
    lines = file.read_text(encoding="utf-8").splitlines()
    options: dict[str, Any] = {"max_words": 100_000} if name == "aci_bench" else {}
    if name == "ncbi_disease_title":
        with pytest.raises(TrainError, match="0 rows are left of 792"):
            prepared(tmp_path, str(file))
        options = {"leave_out": ()}
    parts, found = prepared(tmp_path, str(file), **options)
    assert found["rows"] == len(lines) == sum(found["fates"].values())
    assert found["fates"]["dropped"] == sum(found["dropped"].values())
    assert found["fates"]["malformed"] == 0
    assert found["splits"] == {split: len(part) for split, part in parts.items()}
    asked = [{normalise(one["question"]) for one in part} for part in parts.values()]
    assert apart(asked)
    assert all(
        len(one["question"]) >= 10 and len(one["answer"]) >= 10 and "  " not in one["question"] + one["answer"]
        for one in everything(parts)
    )


def test_with_the_real_tokenizer_the_report_says_what_is_truncated(tmp_path):
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / "gemma3_tokenizer")
    recipe = Recipe(data=(str(SHARED / "aci_bench.jsonl"),), max_words=100_000, examples=0)
    prepare(recipe, tmp_path / "run", tokenizer)
    tokens = report(tmp_path / "run")["tokens"]
    assert tokens["share_without_room_for_an_answer"] == 1
    assert tokens["share_truncated"] == 1
    assert (tmp_path / "run" / "data" / "tokens.png").stat().st_size > 5000
