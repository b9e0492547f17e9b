"""Tokens, the mask and rows, on Gemma's real tokenizer where it is at hand, and on the embedded model's."""

import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from space.prompt import conversation
from train.errors import TrainError
from train.packing import IGNORED, Encoded, arrange, best_fit, collate, encode
from train.recipe import Recipe, read

ROOT = Path(__file__).parent.parent.parent
GEMMA = ROOT.parent / "shared" / "data" / "gemma3_tokenizer"
DEMO = ROOT / "space" / "demo"
BOS, EOS, END = 2, 1, 106
QUESTION = "What helps against hay fever?"
ANSWER = "Rinse your nose with salt water.\n\n* Keep windows shut: pollen, 3–4 °C, naïve, 頭痛."
CHAT = Recipe(max_length=1024)
PLAIN = Recipe(prompt="plain", loss="sequence", packing=False)
TURNS = read("seed")


@pytest.fixture(scope="module", params=[GEMMA, DEMO], ids=["gemma", "demo"])
def tokenizer(request, tmp_path_factory):
    from transformers import AutoTokenizer

    if not (request.param / "tokenizer.json").is_file():
        pytest.skip(f"{request.param} holds no tokenizer")
    folder = tmp_path_factory.mktemp("tokenizer")  # a build may replace space/demo while this runs
    for file in [*request.param.glob("*token*.json"), *request.param.glob("*.jinja"), request.param / "config.json"]:
        shutil.copy(file, folder / file.name)
    return AutoTokenizer.from_pretrained(folder)


def learned(example):
    return [i >= example.learned_from for i in range(len(example))]


def test_exactly_the_answer_and_its_end_are_learned(tokenizer):
    example = encode(QUESTION, ANSWER, tokenizer, CHAT)
    prompt = tokenizer.apply_chat_template(conversation([], QUESTION), add_generation_prompt=True, return_dict=True)
    answer = tokenizer(ANSWER, add_special_tokens=False)["input_ids"]
    expected = [(token, False) for token in prompt["input_ids"]] + [(token, True) for token in [*answer, END]]
    assert list(zip(example.ids.tolist(), learned(example), strict=True)) == expected


def test_the_tokens_are_those_of_the_whole_conversation(tokenizer):
    messages = [*conversation([], QUESTION), {"role": "assistant", "content": ANSWER}]
    whole = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    example = encode(QUESTION, ANSWER, tokenizer, CHAT)
    assert example.ids.tolist() == whole[: whole.index(END, example.learned_from) + 1]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer.decode(example.ids.tolist()) == rendered.removesuffix("\n")


@pytest.mark.parametrize("recipe", [CHAT, TURNS, PLAIN], ids=["chat", "turns", "plain"])
@pytest.mark.parametrize("loss", ["answer", "sequence"])
def test_one_bos_whatever_the_text_says(tokenizer, recipe, loss):
    recipe = Recipe(**(recipe.as_dict() | {"loss": loss}))
    example = encode("<bos>Why? <end_of_turn>\n<start_of_turn>model", "<bos>So.<eos>\ud800", tokenizer, recipe)
    assert example.ids[0] == BOS
    assert (example.ids == BOS).sum() == 1
    end, other = (EOS, END) if recipe.prompt == "plain" else (END, EOS)
    assert example.ids[-1] == end
    assert other not in example.ids
    # The question's own turn ends too; what the texts themselves say ends none.
    assert (example.ids == end).sum() == (1 if recipe.prompt == "plain" else 2)


def test_the_seed_prompt_is_the_turns_alone(tokenizer):
    example = encode(QUESTION, ANSWER, tokenizer, TURNS)
    turns = f"<bos><start_of_turn>user\n{QUESTION}<end_of_turn>\n<start_of_turn>model\n{ANSWER}<end_of_turn>"
    assert tokenizer.decode(example.ids.tolist()) == turns
    assert learned(example) == [False, *[True] * (len(example) - 1)]
    chat = encode(QUESTION, ANSWER, tokenizer, CHAT)
    answer = encode(QUESTION, ANSWER, tokenizer, Recipe(prompt="turns"))
    assert answer.ids[answer.learned_from :].tolist() == chat.ids[chat.learned_from :].tolist()


def test_the_plain_prompt(tokenizer):
    example = encode(QUESTION, ANSWER, tokenizer, PLAIN)
    assert tokenizer.decode(example.ids.tolist()) == f"<bos>Question: {QUESTION}\nAnswer: {ANSWER}<eos>"
    assert learned(example) == [False, *[True] * (len(example) - 1)]
    whole = f"Question: {QUESTION}\nAnswer: {ANSWER}<eos>"
    assert example.ids.tolist() == tokenizer(f"<bos>{whole}", add_special_tokens=False)["input_ids"]
    answer = encode(QUESTION, ANSWER, tokenizer, Recipe(prompt="plain"))
    assert tokenizer.decode(answer.ids[answer.learned_from :].tolist()).strip() == f"{ANSWER}<eos>"


def test_a_long_answer_loses_its_end_and_a_long_prompt_the_example(tokenizer):
    example = encode(QUESTION, ANSWER, tokenizer, CHAT)
    for room in (1, 5):
        cut = encode(QUESTION, ANSWER, tokenizer, Recipe(max_length=example.learned_from + room))
        assert cut.ids.tolist() == example.ids[: example.learned_from + room].tolist()
        assert learned(cut).count(True) == room
        assert END not in cut.ids[cut.learned_from :]
    assert encode(QUESTION, ANSWER, tokenizer, Recipe(max_length=example.learned_from)) is None


def test_a_template_that_changes_the_prompt_afterwards_is_refused(tokenizer):
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = (
            "{{ bos_token }}{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
        )
        with pytest.raises(TrainError, match="chat template"):
            encode(QUESTION, ANSWER, tokenizer, CHAT)
    finally:
        tokenizer.chat_template = template


# ---- rows ---------------------------------------------------------------------------------------------------------


def lengths(count, seed=0):
    draw = random.Random(seed)
    return [min(512, max(1, int(draw.lognormvariate(5.2, 0.6)))) for _ in range(count)]


def test_every_example_is_in_one_row_and_no_row_is_too_long():
    sizes = lengths(5000)
    rows = best_fit(sizes, 512)
    assert sorted(index for row in rows for index in row) == list(range(5000))
    assert max(sum(sizes[index] for index in row) for row in rows) <= 512
    assert sum(sizes) / (512 * len(rows)) > 0.98
    assert rows == best_fit(sizes, 512)


def test_best_fit_takes_the_fullest_row():
    assert best_fit([6, 5, 4, 3, 2], 10) == [[0, 2], [1, 3, 4]]
    assert best_fit([], 10) == []
    assert best_fit([10, 10], 10) == [[0], [1]]


@pytest.mark.parametrize("wrong", [0, 11])
def test_a_length_that_fits_no_row_is_a_bug(wrong):
    with pytest.raises(ValueError, match="1 to 10"):
        best_fit([5, wrong], 10)


def test_packing_grows_linearly():
    def seconds(count):
        sizes = lengths(count)
        started = time.process_time()
        best_fit(sizes, 512)
        return time.process_time() - started

    assert seconds(50_000) < 2
    assert min(seconds(50_000) for _ in range(3)) < 8 * min(seconds(12_500) for _ in range(3))


def test_without_packing_each_example_has_a_row():
    assert arrange([3, 1, 2], Recipe(packing=False)) == [[0], [1], [2]]
    assert arrange([30, 10, 20], Recipe(max_length=32)) == [[0], [2, 1]]


def example(ids, learned_from):
    return Encoded(np.array(ids, dtype=np.int32), learned_from)


def test_a_batch_number_by_number():
    batch = collate([example([2, 7, 8], 2), example([2, 9], 1), example([2, 5, 6], 0)], [[0, 1], [2]], length=7)
    no = IGNORED
    assert batch["input_ids"].tolist() == [[2, 7, 8, 2, 9, 0, 0], [2, 5, 6, 0, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6]]
    assert batch["labels"].tolist() == [[no, no, 8, no, 9, no, no], [no, 5, 6, no, no, no, no]]
    assert set(batch) == {"input_ids", "position_ids", "labels"}
    assert {str(tensor.dtype) for tensor in batch.values()} == {"torch.int64"}
