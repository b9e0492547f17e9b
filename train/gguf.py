"""One file to take away: a merged Gemma 3 as GGUF, for llama.cpp and whatever is built on it.

    run/merged → run/model-q4_0.gguf, model-q8_0.gguf, model-bf16.gguf → metrics.json

With the `gguf` package alone: no compiler, no converter script, no `tokenizer.model`. Tensors are read, quantised and written
one at a time. What the file says of itself (name, licence, base, data) travels in its header.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.errors import TrainError
from train.run import MADE_FROM, Run, fingerprint, whole

if TYPE_CHECKING:
    import numpy as np
    import torch
    from gguf import GGUFWriter

KINDS = {
    "q4_0": ("Q4_0", "Q8_0"),
    "q8_0": ("Q8_0", "Q8_0"),
    "bf16": ("BF16", "BF16"),
}
"""By name: the type of the layers' matrices, and of the embedding, which is the head too and suffers most from four bits."""

_PERIOD = 6
"""llama.cpp takes every sixth layer of a Gemma 3 for one with full attention, and asks no file."""
_ROWS = 8192
"""Rows of a matrix that are float32 at once: 40 MB of a 1B model's embedding instead of 1.2 GB."""
_CONTROL = ("<unused", "[multimodal]", "<mask>")
"""Beginnings of added tokens that are control tokens too, though the tokenizer does not call them special."""


@dataclass(frozen=True)
class About:
    """What a file says of itself; empty where unknown."""

    name: str
    licence: str = ""
    base: str = ""
    data: tuple[str, ...] = ()


def export(folder: Path, out: Path, kind: str, about: About) -> None:
    """Writes the Gemma 3 in `folder` (safetensors, tokenizer.json, chat template) to `out`, whole or not at all.

    `kind` is one of `KINDS`; one-dimensional tensors stay float32. Raises `TrainError` for a model that llama.cpp would read
    as another: of a different architecture, or with layers or scales that its Gemma 3 does not have.
    """
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter

    config = _config(folder)
    with whole(out) as file:
        writer = GGUFWriter(file, MODEL_ARCH_NAMES[MODEL_ARCH.GEMMA3])
        try:
            _describe(writer, about, kind)
            _add_shape(writer, config)
            _add_tokenizer(writer, folder, config.vocab_size)
            _add_sampling(writer, folder)
            tensors = list(_tensors(folder, config.num_hidden_layers, kind))
            for tensor in tensors:
                tensor.announce(writer)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for tensor in tensors:
                writer.write_tensor_data(tensor.read())
        finally:
            writer.close()


def gguf(run: Run) -> None:
    """Writes run/model-<kind>.gguf of every kind, and records size and perplexity of each in metrics.json."""
    merged = run.need(run.merged, "merge")
    mark = made_from(run)
    files = {kind: run.folder / f"model-{kind}.gguf" for kind in KINDS}
    if run.recorded("gguf").get("made_from") == mark and all(file.is_file() for file in files.values()):
        print(f"gguf: {files['q4_0']} is up to date.")
        return
    licence = "gemma" if "gemma" in run.recipe.base.lower() else "mit"
    data = tuple(name.partition(":")[0] for name in run.recipe.data)
    about = About(run.recipe.name, licence, run.recipe.base, data)
    found: dict[str, Any] = {}
    for kind, file in files.items():
        export(merged, file, kind, about)
        found[kind] = {"bytes": file.stat().st_size, **perplexity(run, file)}
        print(f"gguf: {file}: {found[kind]['bytes']:,} bytes, perplexity {found[kind]['perplexity']}", flush=True)
    run.record(gguf={"made_from": mark, "kinds": found})


def made_from(run: Run) -> str:
    """The fingerprint of what the run's GGUF files have to be made from."""
    return fingerprint((run.merged / MADE_FROM).read_text(), sorted(KINDS))


def about_folder(folder: Path) -> About:
    """What the model card in `folder` says."""
    from space.engine.provenance import read
    from space.settings import Settings

    card = read(folder, Settings(model_id=folder.resolve().name), runs_on="")
    named = read(folder, Settings(), runs_on="").model
    return About(card.model if named == "embedded demo model" else named, card.licence, card.base, card.data)


def perplexity(run: Run, file: Path) -> dict[str, Any]:
    """Loss and perplexity on the run's test answers, with the weights as the file stores them, computed in float32.

    Read by transformers' own GGUF reader, so this also proves that another program understands the file.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from train.evaluate import Examples, losses
    from train.statistics import interval

    # GGUF has no word for query_pre_attn_scalar: llama.cpp takes the head's width, transformers' reader a fixed 256.
    config = AutoConfig.from_pretrained(run.merged)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, config=config, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(run.merged)
    examples = Examples(run.data / "test.parquet", tokenizer, run.recipe, most=run.recipe.eval_examples)
    return interval(*losses(model, examples)["answer"])


# ---- what the model is --------------------------------------------------------------------------------------------


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise TrainError(f"{folder} holds no model; merge one, or name the folder of one.") from error
    if config.model_type != "gemma3_text":
        raise TrainError(f"{folder} is a {config.model_type} model; only gemma3_text can be written as GGUF here.")
    expected = [
        "full_attention" if i % _PERIOD == _PERIOD - 1 else "sliding_attention" for i in range(len(config.layer_types))
    ]
    unlike = [
        name
        for name, same in {
            "layer_types": config.layer_types == expected,
            "query_pre_attn_scalar": config.query_pre_attn_scalar == config.head_dim,
            "hidden_activation": config.hidden_activation == "gelu_pytorch_tanh",
            "final_logit_softcapping": not config.final_logit_softcapping,
            "attn_logit_softcapping": not config.attn_logit_softcapping,
            "attention_bias": not config.attention_bias,
        }.items()
        if not same
    ]
    if unlike:
        raise TrainError(
            f"llama.cpp cannot run {folder}: its {unlike[0]} is not that of a published Gemma 3 of 1B or 270M."
        )
    return config


def _add_shape(writer: GGUFWriter, config: Any) -> None:
    rope = config.rope_parameters
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_sliding_window(config.sliding_window)
    writer.add_rope_freq_base(rope["full_attention"]["rope_theta"])
    writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def _describe(writer: GGUFWriter, about: About, kind: str) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    writer.add_type("model")
    writer.add_name(about.name)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{KINDS[kind][0]}"])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_languages(["en"])
    if about.licence:
        writer.add_license(about.licence)
    if about.licence == "gemma":
        writer.add_license_link("https://ai.google.dev/gemma/terms")
    if about.base:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, about.base)
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{about.base}")
    if about.data:
        writer.add_dataset_count(len(about.data))
        for number, data in enumerate(about.data):
            writer.add_dataset_name(number, data)


def _add_sampling(writer: GGUFWriter, folder: Path) -> None:
    """The defaults of generation_config.json, so that they travel with the file."""
    given = _generation_config(folder)
    writer.add_sampling_temp(float(given.get("temperature") or 1.0) if given.get("do_sample") else 0.0)
    if given.get("top_k") is not None:
        writer.add_sampling_top_k(int(given["top_k"]))
    if given.get("top_p") is not None:
        writer.add_sampling_top_p(float(given["top_p"]))
    if given.get("repetition_penalty") is not None:
        writer.add_sampling_penalty_repeat(float(given["repetition_penalty"]))


def _generation_config(folder: Path) -> dict[str, Any]:
    file = folder / "generation_config.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


# ---- tokenizer ----------------------------------------------------------------------------------------------------


def _add_tokenizer(writer: GGUFWriter, folder: Path, rows: int) -> None:
    """tokenizer.json as llama.cpp's "llama" kind, which merges the pair whose token has the highest score.

    BPE merges the pair that comes first in its list, so a token's score is minus its place there. (Mostly that is the order
    of ids, but not for runs of spaces, of which the longest go first.)
    """
    from gguf import TokenType
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not tokenizer.chat_template:
        raise TrainError(
            f"{folder} has no chat template, which the file has to carry; export an instruction-tuned model."
        )
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    place: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        place.setdefault(left + right, rank)
    tokens = [f"[PAD{number}]".encode() for number in range(rows)]
    scores = [-float(len(merges))] * rows
    types = [TokenType.UNUSED] * rows
    added = tokenizer.added_tokens_decoder
    for text, number in tokenizer.get_vocab().items():
        if number >= rows:  # <image_soft_token> of the text-only model: it has no embedding
            continue
        tokens[number] = text.encode()
        scores[number] = -float(place.get(text, len(merges)))
        if number in added and (added[number].special or text.startswith(_CONTROL)):
            types[number] = TokenType.CONTROL
        elif len(text) == 6 and text.startswith("<0x"):
            types[number] = TokenType.BYTE
        elif number in added and not text.startswith("▁"):  # runs of spaces have to be shown as spaces
            types[number] = TokenType.USER_DEFINED
        else:
            types[number] = TokenType.NORMAL
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(tokenizer.chat_template)
    stops = _generation_config(folder).get("eos_token_id")
    stops = [stops] if isinstance(stops, int) else stops or [tokenizer.eos_token_id]
    writer.add_eos_token_id(stops[0])
    if len(stops) > 1:  # <end_of_turn>
        writer.add_eot_token_id(stops[-1])


# ---- tensors ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tensor:
    """One tensor of the file: where it is read, and how it is stored."""

    file: Path
    name: str
    stored: str
    """Its name in GGUF."""
    type: Any
    """A `gguf.GGMLQuantizationType`."""
    shape: tuple[int, ...]

    def announce(self, writer: GGUFWriter) -> None:
        import numpy as np
        from gguf.quants import quant_shape_to_byte_shape

        shape = quant_shape_to_byte_shape(self.shape, self.type)
        writer.add_tensor_info(self.stored, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=self.type)

    def read(self) -> np.ndarray[Any, Any]:
        """Its bytes, [rows, bytes a row]."""
        import numpy as np
        from safetensors import safe_open

        with safe_open(self.file, "pt") as weights:
            if len(self.shape) == 1:  # Gemma multiplies by 1 + weight, llama.cpp by what is stored
                norm: np.ndarray[Any, Any] = (weights.get_tensor(self.name).float() + 1).numpy()
                return norm.view(np.uint8)
            rows = weights.get_slice(self.name)
            parts = [rows[at : at + _ROWS] for at in range(0, self.shape[0], _ROWS)]
            return np.concatenate([_bytes(part, self.type) for part in parts])


def _tensors(folder: Path, layers: int, kind: str) -> Iterator[_Tensor]:
    """All tensors of `folder`, with their names in GGUF."""
    from gguf import MODEL_ARCH, GGMLQuantizationType, get_tensor_name_map
    from safetensors import safe_open

    matrix, embedding = (GGMLQuantizationType[name] for name in KINDS[kind])
    names = get_tensor_name_map(MODEL_ARCH.GEMMA3, layers)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118  it is no dictionary
                shape = tuple(weights.get_slice(name).get_shape())
                if (stored := names.get_name(name, try_suffixes=(".weight",))) is None:
                    raise TrainError(f"{file} holds {name}, which is no part of a Gemma 3.")
                type = GGMLQuantizationType.F32 if len(shape) == 1 else matrix
                yield _Tensor(file, name, stored, embedding if "embed" in name or "lm_head" in name else type, shape)


def _bytes(part: torch.Tensor, type: Any) -> np.ndarray[Any, Any]:
    """Rows of a matrix as they are stored."""
    import torch
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    if type == GGMLQuantizationType.BF16:  # most weights are bfloat16 already; these come through bit by bit
        kept: np.ndarray[Any, Any] = part.to(torch.bfloat16).contiguous().view(torch.uint8).numpy()
        return kept
    stored: np.ndarray[Any, Any] = quantize(part.float().numpy(), type)
    return stored
