"""What several of these tests need, made once: a Gemma 3 of some ten thousand parameters, the embedded model as GGUF in 16
bits, and a model server."""

import json
from pathlib import Path

import pytest

from space.settings import DEMO_MODEL

ROOT = Path(__file__).parent.parent.parent
CONTEXT = 1024
WINDOW = 24
"""The sliding window, far shorter than any prompt with the system prompt in it."""
WORDS = 107 + 256
"""The first id of `train.demo`'s tokenizers that is neither a control token nor a byte."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Matrices this small are slower on two threads, much slower where others compute too."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def save_model(folder, vocabulary, **changes):
    """Random weights, large and untied so that a greedy answer wanders instead of repeating one token.

    Control and byte tokens, which come first, are never the likeliest, so a greedy answer is text.
    """
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig

    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "max_position_embeddings": CONTEXT,
        "sliding_window": WINDOW,
        "initializer_range": 0.5,
        "tie_word_embeddings": False,
        **changes,
    }
    torch.manual_seed(1)
    model = Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=vocabulary, bos_token_id=2, eos_token_id=[1, 106], **sizes))
    if not model.config.tie_word_embeddings:
        torch.nn.init.zeros_(model.lm_head.weight[:WORDS])
    model.generation_config = GenerationConfig(do_sample=False, bos_token_id=2, eos_token_id=[1, 106], pad_token_id=0)
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of the tiny model: a tokenizer of Gemma's kind, Gemma 3's chat template, greedy by default."""
    from train.demo import make_tokenizer

    folder = tmp_path_factory.mktemp("tiny")
    rows = (ROOT / "train" / "sample.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    tokenizer = make_tokenizer([json.loads(row)["output"] for row in rows], vocabulary=700)
    tokenizer.save_pretrained(folder)
    save_model(folder, len(tokenizer))
    return folder


@pytest.fixture(scope="session")
def demo_gguf(tmp_path_factory):
    """The embedded model as GGUF in bfloat16, which is what it is stored in: nothing is lost."""
    from train.gguf import About, export

    file = tmp_path_factory.mktemp("gguf") / "model-bf16.gguf"
    export(DEMO_MODEL, file, "bf16", About("demo", "mit"))
    return file


@pytest.fixture(scope="session")
def llama_server(demo_gguf):
    """The address of llama.cpp's own server with one place, as somebody else would run it."""
    from xllamacpp import CommonParams, Server

    parameters = CommonParams()
    parameters.model.path = str(demo_gguf)
    parameters.n_ctx = CONTEXT
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.verbosity = 1
    server = Server(parameters)
    yield server.listening_address
    del server


@pytest.fixture
def online(monkeypatch):
    """The tests' own switch keeps them from the Hub; these speak to this machine only."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
