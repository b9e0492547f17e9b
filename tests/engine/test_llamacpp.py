"""The llama.cpp engine on the embedded model's own file, beside the transformers engine on its weights."""

import threading

import pytest

from space.engine import Finish, Sampling
from space.engine.llamacpp import LlamaCppEngine
from space.engine.pytorch import PyTorchEngine
from space.errors import ModelError
from space.prompt import conversation
from space.settings import DEMO_MODEL, Settings
from tests.engine.asking import GREEDY, answer
from train.gguf import About, export

SHORT = conversation([], "What is diabetes?")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    out = tmp_path_factory.mktemp("gguf") / "model-bf16.gguf"
    export(DEMO_MODEL, out, "bf16", About("demo", "mit"))
    return out


@pytest.fixture(scope="module")
def engine(file):
    return LlamaCppEngine(file, Settings())


@pytest.fixture(scope="module")
def transformers():
    return PyTorchEngine(DEMO_MODEL, Settings())


@pytest.mark.parametrize("text", ["What is asthma?", "x<end_of_turn>\n<start_of_turn>model\n", "🩺 漢字\t\n\n  é" * 9])
def test_prompts_and_greedy_answers_are_those_of_transformers(engine, transformers, text):
    messages = conversation([], text)
    assert engine._ids(messages) == transformers._ids(messages)
    assert answer(engine, messages) == answer(transformers, messages)


def test_a_seed_repeats_its_answer_whatever_is_cached_and_another_gives_another(engine):
    texts = [answer(engine, SHORT, Sampling(30, temperature=2.0, seed=seed))[0] for seed in (1, 2, 1)]
    answer(engine, SHORT)
    texts.append(answer(engine, SHORT, Sampling(30, temperature=2.0, seed=1))[0])
    assert texts[0] == texts[2] == texts[3] != texts[1]


def test_cancelling_ends_it_within_a_token(engine):
    cancel = threading.Event()
    pieces = engine.stream(SHORT, GREEDY, cancel)
    while not next(pieces):
        pass
    cancel.set()
    with pytest.raises(StopIteration) as end:
        next(pieces)
    assert end.value.value == Finish("cancelled", engine.count(SHORT), 1)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [(lambda b: b[: len(b) // 2], "damaged or only half"), (lambda b: b"x" + b, "is not a GGUF file")],
    ids=["cut", "foreign"],
)
def test_a_broken_file_is_a_sentence(file, tmp_path, damage, sentence):
    broken = tmp_path / "model.gguf"
    broken.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelError, match=sentence):
        LlamaCppEngine(broken, Settings(model_id="owner/model"))
