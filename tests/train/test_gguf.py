"""The GGUF file of a model: the same tokens, the same weights, nothing left out."""

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from space.engine.llamacpp import LlamaCppEngine
from space.settings import DEMO_MODEL, Settings
from train.errors import TrainError
from train.gguf import about_folder, export

FILE = DEMO_MODEL / "model-q4_0.gguf"
PIECES = [
    *[
        "What",
        "are",
        "the",
        "symptoms",
        "of",
        "diabetes",
        "and",
        "hypertension",
        "?",
        "\n",
        "\t",
        "",
        ".",
        ",",
        ";",
        "(",
        ")",
        "-",
        "3.5",
        "10",
        "000",
        "mg/dl",
    ],
    *[
        "🩺",
        "👩🏽‍⚕️",
        "漢字",
        "かな",
        "العربية",
        "हिन्दी",
        "é",
        "e\u0301",
        "\u00a0",
        "\u200b",
        "\x01",
        "\x7f",
        "ﬁ",
        "Ω≠∞",
    ],
    *["<end_of_turn>", "<start_of_turn>", "<bos>", "<unused7>", "<0x41>", "▁", "</s>", "[multimodal]"],
    *["\n\n\n", "        ", "\t\t", "A" * 40, "zzqx", "'s", "COVID-19", "B12"],
]


def texts(count):
    """Odd texts, a tenth of them long; no two low lines beside spaces, which GGUF's kind of tokenizer takes for spaces."""
    rng, found = random.Random(7), []
    while len(found) < count:
        words = rng.choices(PIECES, k=rng.choice([1, 3, 12, 12, 200]))
        text = rng.choice(["", " "]).join(words)
        if "▁▁" not in text and "▁ " not in text and " ▁" not in text:
            found.append(text)
    return found


def test_a_thousand_odd_texts_become_the_same_tokens():
    engine, tokenizer = LlamaCppEngine(FILE, Settings()), AutoTokenizer.from_pretrained(DEMO_MODEL)

    def ids(text):
        body = {"content": text, "add_special": False, "parse_special": True}
        return engine._ask("POST", "/tokenize", json=body)["tokens"]

    odd = texts(1000)
    assert sum(len(text) for text in odd) > 100_000
    for text in odd:
        assert ids(text) == tokenizer.encode(text, add_special_tokens=False), ascii(text)[:200]


def test_the_embedded_models_file_is_made_of_its_weights(tmp_path):
    export(DEMO_MODEL, tmp_path / "again.gguf", "q4_0", about_folder(DEMO_MODEL))
    assert (tmp_path / "again.gguf").read_bytes() == FILE.read_bytes()


def test_a_folder_without_a_model_is_a_sentence_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(TrainError, match="holds no model; merge one, or name the folder of one"):
        export(tmp_path, tmp_path / "model.gguf", "q4_0", about_folder(DEMO_MODEL))
    assert list(tmp_path.iterdir()) == []
