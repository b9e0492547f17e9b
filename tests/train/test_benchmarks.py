"""Multiple choice, on small files in exactly the published columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from train import benchmarks
from train.benchmarks import BENCHMARKS, Question, drawn, load
from train.errors import TrainError
from train.recipe import Recipe

MEDMCQA = {
    "id": "45258d3d-b974-44dd-a161-c3fccbdadd88", "question": "Which vitamin is made in the skin?", "opa": "Vitamin A",
    "opb": "Vitamin C", "opc": "Vitamin D", "opd": "Vitamin K", "cop": 2, "choice_type": "multi",
    "exp": None, "subject_name": "Biochemistry", "topic_name": None,
}  # fmt: skip
MEDQA = {
    "id": "test-00000", "sent1": "A 23-year-old woman is tired. What is likely?", "sent2": "", "ending0": "Anaemia",
    "ending1": "Gout", "ending2": "Measles", "ending3": "Rabies", "label": 0,
}  # fmt: skip


def recipe(tmp_path: Path, medmcqa: Any = MEDMCQA, medqa: Any = MEDQA, **options: Any) -> Recipe:
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(medmcqa | {"id": str(n)}) + "\n" for n in range(20)))
    (tmp_path / "test.json").write_text(json.dumps(medqa) + "\n")
    named = (f"medmcqa={tmp_path / 'validation.jsonl'}", f"medqa={tmp_path / 'test.json'}")
    return Recipe(**{"base": "space/demo", "base_revision": "", "bits": 32, "benchmarks": named, **options})


def test_the_published_columns_become_questions(tmp_path: Path) -> None:
    found = load(recipe(tmp_path))
    assert found["medmcqa"][0] == Question(
        "Which vitamin is made in the skin?", ("Vitamin A", "Vitamin C", "Vitamin D", "Vitamin K"), 2
    )
    assert found["medqa"] == [
        Question("A 23-year-old woman is tired. What is likely?", ("Anaemia", "Gout", "Measles", "Rabies"), 0)
    ]


def test_from_the_hub_the_splits_with_answers_are_asked_for(monkeypatch) -> None:
    import datasets

    asked = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *names, **options: asked.append((*names, options["split"])) or []
    )
    load(Recipe())
    assert asked == [("openlifescienceai/medmcqa", "validation"), ("GBaker/MedQA-USMLE-4-options-hf", "test")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cop": 4}, "row 1 of .*says 4 in 'cop', but the right option must be 0 to 3"),
        ({"cop": -1}, "says -1 in 'cop'"),
        ({"opd": None}, "has no text in 'opd'"),
    ],
)
def test_another_file_than_it_should_be_is_one_sentence(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainError, match=words) as caught:
        load(recipe(tmp_path, MEDMCQA | change))
    assert "\n" not in str(caught.value)


def test_an_unknown_benchmark_a_missing_file_and_no_hub_are_one_sentence_each() -> None:
    for named, words in (
        ("mmlu", "only medmcqa, medqa"), ("medqa=nowhere.jsonl", "no such"), ("medqa", r"medqa=FILE"),
    ):  # fmt: skip
        with pytest.raises(TrainError, match=words) as caught:
            load(Recipe(benchmarks=(named,)))
        assert "\n" not in str(caught.value)


def test_the_draw_is_the_seeds(tmp_path: Path) -> None:
    questions = [Question(str(number), ("a", "b", "c", "d"), 0) for number in range(100)]
    one, same, other = (drawn(questions, Recipe(benchmark_questions=10, seed=seed)) for seed in (1, 1, 2))
    assert one == same != other
    assert len(one) == 10
    assert drawn(questions, Recipe(benchmark_questions=0)) == questions


def test_the_likeliest_option_counts_and_long_options_are_not_punished_once_normalised(tmp_path, monkeypatch) -> None:
    """The likelihoods are made up: nats a token, so that the sum grows with the option's length."""
    from train import likelihood
    from train.base import load_base

    model, tokenizer = load_base(recipe(tmp_path), "cpu")
    prompts: list[str] = []

    def losses(_: Any, encoded: Any) -> Any:
        import numpy as np

        prompts.extend(tokenizer.decode(example.ids) for example in encoded)
        return [
            np.full(
                len(example) - example.learned_from, 0.5 if "long and right" in prompt.partition("model\n")[2] else 1.0
            )
            for example, prompt in zip(encoded, prompts, strict=True)
        ]

    monkeypatch.setattr(likelihood, "token_losses", losses)
    question = Question("What is it?", ("short", "brief", "a long and right answer to it", "small"), 2)
    found = benchmarks.score(model, tokenizer, [question], recipe(tmp_path))
    assert found == {"plain": [False], "normalised": [True]}
    assert "You are a health information assistant." in prompts[0]
    assert "What is it?\n\nA. short\nB. brief\nC. a long and right answer to it\nD. small<end_of_turn>" in prompts[0]
    assert [prompt.rpartition("model\n")[2] for prompt in prompts] == [
        f"{letter}. {option}<end_of_turn>" for letter, option in zip("ABCD", question.options, strict=True)
    ]


def test_a_question_longer_than_training_rows_is_still_asked_whole(tmp_path: Path) -> None:
    from train.base import load_base

    short = recipe(tmp_path, max_length=32)
    model, tokenizer = load_base(short, "cpu")
    question = Question("word " * 100, ("a", "b", "c", "d"), 1)
    assert len(benchmarks.score(model, tokenizer, [question] * 2, short)["plain"]) == 2


def test_each_benchmark_has_four_options() -> None:
    assert all(len(benchmark.options) == len(benchmarks.LETTERS) for benchmark in BENCHMARKS.values())
