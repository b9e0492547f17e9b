"""GGUF files that cannot be served: each is one sentence. What the engine does with the others is in test_behaviour.py."""

import httpx
import pytest

from space.engine import load
from space.engine.gguf import OVERHEAD
from space.engine.llamacpp import LlamaCppEngine
from space.errors import ModelError
from space.settings import Settings
from tests.serving import serving, wait_until

BROKEN = {
    "cut in half": (lambda whole: whole[: len(whole) // 2], "is damaged or only half downloaded; delete "),
    "cut at its end": (lambda whole: whole[:-5000], "is damaged or only half downloaded; delete "),
    "no GGUF": (lambda whole: b"x" + whole, " is not a GGUF file; choose another, or set ENGINE=transformers."),
    "another architecture": (
        lambda whole: whole.replace(b"gemma3", b"gemma?"),
        "llama.cpp cannot load owner/model (architecture 'gemma?'): the file is damaged, or of a kind that",
    ),
    "no chat template": (
        lambda whole: whole.replace(b"tokenizer.chat_template", b"tokenizer.chat_whatever"),
        "owner/model has no chat template, so it is not made for conversation; choose an instruction-tuned model.",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_served_is_a_sentence(demo_gguf, tmp_path, kind):
    damage, sentence = BROKEN[kind]
    file = tmp_path / "model.gguf"
    file.write_bytes(damage(demo_gguf.read_bytes()))
    with pytest.raises(ModelError) as error:
        LlamaCppEngine(file, Settings(model_id="owner/model"))
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_too_little_memory_is_a_sentence(demo_gguf, monkeypatch):
    free = demo_gguf.stat().st_size + OVERHEAD - 1
    monkeypatch.setattr("space.engine.llamacpp.free_memory", lambda: free)
    with pytest.raises(ModelError) as error:
        LlamaCppEngine(demo_gguf, Settings(model_id="owner/model"))
    assert str(error.value).startswith(
        "There is not enough memory on this machine for owner/model: it needs 0.5 GB and "
    )
    assert "; set GGUF_FILE to a smaller file, lower MAX_RUNNING, or choose a smaller model." in str(error.value)


def test_the_page_stays_up_and_says_it(demo_gguf, tmp_path):
    damage, sentence = BROKEN["another architecture"]
    file = tmp_path / "model.gguf"
    file.write_bytes(damage(demo_gguf.read_bytes()))
    with serving(load=load, model_id=str(file)) as address:
        health = wait_until(lambda: (r := httpx.get(f"{address}/health").json())["state"] == "failed" and r)
        assert sentence.replace("owner/model", str(file)) in health["reason"]
        assert httpx.get(address).status_code == 200
