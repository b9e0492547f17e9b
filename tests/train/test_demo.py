"""The embedded model: its data, its tokenizer, its build, and a few real answers."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from space.prompt import conversation
from train.__main__ import main
from train.demo import CONTEXT, END, FOLDER, Plan, batches, build, encode, loss_of, make_model, make_tokenizer
from train.lessons import Lesson, Teacher, written_probes
from train.sample import ANSWER, DECLINE, GROUPS, QUESTIONS, REPLY, SAMPLE, SampleError, plain, read, read_rows

REAL_TOKENIZER = Path(__file__).parents[3] / "shared" / "data" / "gemma3_tokenizer"
ROOT = Path(__file__).parents[2]
COLUMNS = ("instruction", "input", "output")


# ---- the data set ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return read_rows(SAMPLE, COLUMNS)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(read())


def test_the_sample_covers_enough_topics_with_enough_kinds(teacher: Teacher) -> None:
    topics = teacher.sample.topics
    assert len(topics) >= 120
    assert all(len(topic.answers) >= 4 for topic in topics)
    names = {topic.names[0].text for topic in topics}
    assert {"diabetes", "high blood pressure", "vitamin D deficiency", "vitamin D"} <= names
    assert {topic.group for topic in topics} == set(GROUPS)


def test_answers_have_the_length_of_an_answer_and_no_doses(rows: list[dict[str, str]]) -> None:
    dose = re.compile(
        r"\d\s*(mg|mcg|µg|micrograms?|milligrams?|grams?|g|IU|ml|milliliters?|tablets?|pills?|capsules?|units)\b",
        re.IGNORECASE,
    )
    for row in rows:
        if row["instruction"] == ANSWER:
            assert 30 <= len(row["output"].split()) <= 80, row
        assert not dose.search(row["output"]), row
        assert not re.search(r"[\n*#<>]|https?:", row["output"]), row


def test_no_question_is_asked_twice(rows: list[dict[str, str]]) -> None:
    twice = [text for text, count in Counter(plain(row["input"]) for row in rows).items() if count > 1]
    assert not twice


def test_no_name_belongs_to_two_topics(teacher: Teacher) -> None:
    names = Counter(plain(name.text) for topic in teacher.sample.topics for name in topic.names)
    assert not [name for name, count in names.items() if count > 1]
    assert not names.keys() & {plain(name.text) for name, _ in teacher.sample.declined}


def test_answers_are_known_by_their_first_words(teacher: Teacher) -> None:
    starts = Counter(
        " ".join(answer.split()[:12]) for topic in teacher.sample.topics for answer in topic.answers.values()
    )
    assert not [start for start, count in starts.items() if count > 1]


def test_there_is_one_refusal_and_it_says_how_to_load_a_real_model(rows: list[dict[str, str]]) -> None:
    (refusal,) = {row["output"] for row in rows if row["instruction"] == DECLINE}
    assert "MODEL_ID" in refusal
    assert {row["instruction"] for row in rows} == {ANSWER, REPLY, DECLINE}


def test_a_broken_sample_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "sample.jsonl"
    with pytest.raises(SampleError, match="is missing; restore it"):
        read(path)
    path.write_text('{"instruction": "x"}\n')
    with pytest.raises(SampleError, match="line 1: the columns must be instruction, input, output"):
        read(path)
    path.write_text("{\n")
    with pytest.raises(SampleError, match="line 1: not JSON"):
        read(path)


# ---- what is held out -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lessons(teacher: Teacher) -> list[Lesson]:
    return list(teacher.lessons(6000, Random(1)))


def test_no_question_of_the_check_is_trained_on(teacher: Teacher, lessons: list[Lesson]) -> None:
    trained = {plain(question) for lesson in lessons for question, _ in lesson.turns}
    alone = {plain(probe.question) for group in teacher.probes().values() for probe in group if not probe.history}
    assert not trained & alone


def test_no_held_out_name_is_trained_on_in_any_form(teacher: Teacher, lessons: list[Lesson]) -> None:
    held = {plain(name.text) for name, _ in teacher.held_names}
    assert len(held) >= 100
    text = "\n".join(f" {plain(question)} " for lesson in lessons for question, _ in lesson.turns)
    assert not [name for name in held if f" {name} " in text]


def test_the_written_questions_are_never_read_while_training() -> None:
    names = [row["input"] for row in read_rows(QUESTIONS, ("input", "question"))]
    assert len(names) >= 200
    assert "written_probes" not in (ROOT / "train" / "demo.py").read_text()
    assert "questions.jsonl" not in (ROOT / "train" / "demo.py").read_text()


def test_lessons_are_conversations_of_every_sort(teacher: Teacher, lessons: list[Lesson]) -> None:
    turns = Counter(len(lesson.turns) for lesson in lessons)
    assert 0.05 < sum(count for length, count in turns.items() if length > 1) / len(lessons) < 0.15
    answers = {answer for lesson in lessons for _, answer in lesson.turns}
    known = {text for topic in teacher.sample.topics for text in topic.answers.values()}
    assert len(known - answers) <= 0.05 * len(known), "a few thousand lessons teach nearly every answer"
    assert answers - known == {*teacher.sample.replies, teacher.sample.refusal}


# ---- the tokenizer --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


def test_control_tokens_have_gemmas_ids(tokenizer: Any) -> None:
    tokens = [
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<mask>",
        "[multimodal]",
        "<unused0>",
        "<unused98>",
        "<start_of_turn>",
        "<end_of_turn>",
    ]
    assert tokenizer.convert_tokens_to_ids(tokens) == [0, 1, 2, 3, 4, 5, 6, 104, 105, 106]
    assert tokenizer.padding_side == "left"
    assert 4_000 <= len(tokenizer) <= 6_000


@pytest.mark.parametrize(
    "text",
    [
        "What are the symptoms of diabetes?",
        " two  spaces,   three, and a trailing one ",
        "don't , stop . now ! a 's",
        "tab\tnew\nline\n\n\nthree\r\n",
        "Überraschung, naïve, 38 °C – “quoted”",
        "糖尿病 😀👩‍👩‍👧 मधुमेह \u0301 \u200b \x00 \U0010ffff",
        "<0x41> literally, and <unused5>",
        "",
    ],
)
def test_any_text_comes_back_as_it_was(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_random_unicode_comes_back_as_it_was(tokenizer: Any) -> None:
    rng = Random(7)
    for _ in range(300):
        code = [c for c in (rng.randrange(0x20000) for _ in range(30)) if not 0xD800 <= c < 0xE000 and c != 0x2581]
        text = "".join(map(chr, code))
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


CONVERSATIONS = [
    conversation([], "What is asthma?"),
    conversation(
        [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "Hello!\n"}], "  two lines\nhere "
    ),
    [{"role": "user", "content": "no system"}, {"role": "assistant", "content": "yes"}],
    [
        {"role": "system", "content": [{"type": "text", "text": "S"}]},
        {"role": "user", "content": [{"type": "text", "text": " a "}, {"type": "image"}]},
    ],
]


@pytest.mark.skipif(not REAL_TOKENIZER.is_dir(), reason="the real Gemma tokenizer is not on this machine")
def test_the_chat_template_renders_like_gemmas(tokenizer: Any) -> None:
    from jinja2.exceptions import TemplateError

    real = (REAL_TOKENIZER / "chat_template.jinja").read_text()
    for messages in CONVERSATIONS:
        for prompt in (True, False):
            ours = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            theirs = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=prompt, chat_template=real
            )
            assert ours == theirs
    with pytest.raises(TemplateError, match="alternate"):
        tokenizer.apply_chat_template([{"role": "assistant", "content": "first"}], tokenize=False)


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(lessons: list[Lesson]) -> tuple[Any, list[int], list[Any]]:
    tokenizer = make_tokenizer((text for lesson in lessons[:500] for turn in lesson.turns for text in turn), 1200)
    prefix, examples = encode(lessons[:200], tokenizer, opening=8)
    return tokenizer, prefix, examples


def test_a_lesson_is_what_serving_sends_and_only_answers_are_learned(
    lessons: list[Lesson], small: tuple[Any, list[int], list[Any]]
) -> None:
    tokenizer, prefix, examples = small
    for lesson, example in zip(lessons, examples, strict=False):
        question, answer = lesson.turns[0]
        asked = tokenizer.apply_chat_template(conversation([], question), add_generation_prompt=True)["input_ids"]
        ids = prefix + example.ids
        assert ids[: len(asked)] == asked
        learned = tokenizer.decode([example.ids[place + 1] for place in example.learned])
        if lesson.whole:
            assert learned == "".join(f"{answer}<end_of_turn>" for _, answer in lesson.turns)
        else:
            assert "".join(f"{answer}<end_of_turn>" for _, answer in lesson.turns).startswith(learned)
            assert (example.ids.count(END) == 2 * len(lesson.turns) - 1) or len(lesson.turns[-1][1].split()) <= 8
        assert answer.startswith(learned[:10])


def test_the_shared_prefix_changes_no_loss(small: tuple[Any, list[int], list[Any]]) -> None:
    import torch

    tokenizer, prefix, examples = small
    model = make_model(Plan(hidden=64, intermediate=64, layers=2), len(tokenizer))
    batch = examples[:6]
    shared = loss_of(model, torch.tensor(prefix), batch).item()
    total, count = 0.0, 0
    for example in batch:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            logits = model(torch.tensor([prefix + example.ids])).logits[0].float()
        for place in example.learned:
            total -= torch.log_softmax(logits[len(prefix) + place], -1)[example.ids[place + 1]].item()
            count += 1
    assert shared == pytest.approx(total / count, abs=2e-3)


def test_batches_hold_every_lesson_once_and_little_padding(small: tuple[Any, list[int], list[Any]]) -> None:
    examples = small[2]
    made = list(batches(examples, 800, Random(0)))
    assert sorted(id(example) for batch in made for example in batch) == sorted(map(id, examples))
    assert all(len(batch) == 1 or len(batch) * max(len(example.ids) for example in batch) <= 800 for batch in made)


def test_two_builds_with_one_seed_are_the_same_and_whole(tmp_path: Path) -> None:
    plan = Plan(seed=5, lessons=120, more_lessons=40, vocabulary=1000, hidden=64, intermediate=64, layers=2)

    def digests(folder: Path) -> dict[str, str]:
        build(folder, plan, score=False)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    once, again = digests(tmp_path / "one"), digests(tmp_path / "two")
    for name in ("README.md", "metrics.json"):  # they tell the time it took
        assert once.pop(name)
        assert again.pop(name)
    assert once == again
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    } <= set(once)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}, "nothing else is left behind"


def test_a_missing_sample_is_one_sentence_and_status_two(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("train.demo.build", lambda *_: read(tmp_path / "sample.jsonl"))
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    assert "is missing; restore it" in capsys.readouterr().err
    assert main(["demo", "--check", "--out", str(tmp_path / "none")]) == 2
    assert "holds no model; make one with python -m train demo" in capsys.readouterr().err


def test_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, train.__main__; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'tokenizers')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# ---- the folder -----------------------------------------------------------------------------------------------------


def test_the_folder_has_the_shape_of_a_published_model() -> None:
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(files) == {
        "config.json", "model.safetensors", "model-q4_0.gguf", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
        "generation_config.json", "metrics.json", "README.md",
    }  # fmt: skip
    assert sum(files.values()) <= 12e6
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["model_type"] == "gemma3_text"
    assert config["max_position_embeddings"] == CONTEXT
    assert json.loads((FOLDER / "generation_config.json").read_text())["eos_token_id"] == [1, 106]


def test_the_weights_are_bfloat16_and_the_head_is_tied() -> None:
    from safetensors import safe_open

    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118
        assert "lm_head.weight" not in weights.keys()  # noqa: SIM118


def test_the_recorded_scores_are_of_this_sample_and_in_the_card(teacher: Teacher) -> None:
    scores = json.loads((FOLDER / "metrics.json").read_text())
    assert scores["topics"] == len(teacher.sample.topics)
    assert scores["questions"] == len(teacher.answers)
    # Whether they are good enough is the exit status of `python -m train demo --check`.
    assert scores["phrasings"]["share"] > 0.9
    assert scores["held_out_topics"]["share"] > 0.85
    assert 2_000_000 <= scores["parameters"] <= 6_000_000
    assert f"{scores['phrasings']['right']} of {scores['phrasings']['of']}" in (FOLDER / "README.md").read_text()


def test_real_questions_get_real_answers(teacher: Teacher) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from train.demo_check import answers
    from train.lessons import Probe

    known = {topic.names[0].text: topic.answers for topic in teacher.sample.topics}
    probes = [
        Probe("What are the symptoms of diabetes?", known["diabetes"]["symptoms"]),
        Probe("high blood pressure treatment", known["high blood pressure"]["treatment"]),
        Probe("Which foods contain vitamin D?", known["vitamin D"]["sources"]),
        Probe("What is the tarsal coalition of Zanzibar?", teacher.sample.refusal),
        Probe("How is it treated?", known["asthma"]["treatment"], (("What is asthma?", known["asthma"]["what"]),)),
    ]
    model = AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    assert answers(model, tokenizer, probes) == [probe.answer for probe in probes]


def test_every_written_question_has_an_answer_in_the_sample(teacher: Teacher) -> None:
    probes = written_probes(teacher.sample)
    assert all(probe.answer for group in probes.values() for probe in group)
    assert {plain(row["input"]) for row in read_rows(QUESTIONS, ("input", "question"))}


def test_a_build_replaces_the_folder_that_was_there(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    (out / "stale").write_text("x")
    build(
        out,
        Plan(seed=1, lessons=40, more_lessons=20, vocabulary=800, hidden=64, intermediate=64, layers=1),
        score=False,
    )
    assert not (out / "stale").exists()
    assert (out / "config.json").is_file()
    shutil.rmtree(out)
