"""The embedded model: `python -m train demo` makes space/demo from sample.jsonl.

    sample.jsonl → lessons (many wordings of each question) → tokenizer → Gemma 3 of 4M parameters → space/demo

Everything is drawn from one seed and computed on two threads, so on one kind of CPU a build can be repeated bit by bit.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from train.lessons import SECOND, Lesson, Teacher, messages
from train.sample import SAMPLE, Sample, read

if TYPE_CHECKING:
    import torch
    from transformers import Gemma3ForCausalLM, PreTrainedTokenizerBase

FOLDER = Path(__file__).parent.parent / "space" / "demo"
TEMPLATE = Path(__file__).with_name("chat_template.jinja")
"""Gemma 3's chat template in our own words; a test holds that both render alike."""

PAD, EOS, BOS, UNK, START, END = 0, 1, 2, 3, 105, 106
_CONTROL = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<mask>",
    "[multimodal]",
    *(f"<unused{i}>" for i in range(99)),
    "<start_of_turn>",
    "<end_of_turn>",
]
_SPECIAL = {PAD, EOS, BOS, UNK, START, END}
CONTEXT = 1024
GENTLE = 0.08
"""A second course's learning rate, as a share of the first's."""


@dataclass(frozen=True)
class Plan:
    """The size of a build. How long the defaults took, and where, is in the model card."""

    seed: int = 1
    lessons: int = 95_000
    more_lessons: int = 10_000
    """Of each second course, which is gentler: see `lessons.SECOND`."""
    vocabulary: int = 4_200
    hidden: int = 256
    intermediate: int = 768
    layers: int = 4
    batch_tokens: int = 2_500
    learning_rate: float = 1e-2
    """Of the layers' matrices (Muon). Embedding and norms learn at half of it (AdamW)."""
    opening: int = 10
    """Tokens of an answer that a lesson which is not whole goes on for: the choice of the answer is in the first few."""


@dataclass
class Example:
    """A tokenised lesson without the prefix all share: its ids, and the places whose next token is learned."""

    ids: list[int]
    learned: list[int]


# ---- tokenizer ----------------------------------------------------------------------------------------------------


def make_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerBase:
    """A BPE tokenizer of Gemma's kind, trained on `texts`: `▁` for the space, byte fallback, Gemma's control ids."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import GemmaTokenizer

    # Words are kept apart while merges are learned, so no token spans two; afterwards Gemma's own splitter does.
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(r"▁?\p{L}+|▁?\p{N}|\n+|▁+|[^\p{L}\p{N}▁\n]"), "isolated")
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    first = len(_CONTROL) + len(byte_tokens)
    alphabet = sorted({chr(c) for c in range(33, 127)} | set("▁\n’“”–—…°éèüöä"))
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary - first,
            min_frequency=3,
            limit_alphabet=len(alphabet),
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    learned = json.loads(learner.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    vocab = {piece: number for number, piece in enumerate([*_CONTROL, *byte_tokens, *pieces])}
    merges = [tuple(merge) for merge in learned["merges"]]

    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=_CONTROL[UNK], fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", BOS)]
    )
    for number, token in enumerate(_CONTROL):
        tokenizer.add_tokens([AddedToken(token, normalized=False, special=number in _SPECIAL)])
    return GemmaTokenizer(
        tokenizer_object=tokenizer,
        bos_token=_CONTROL[BOS],
        eos_token=_CONTROL[EOS],
        pad_token=_CONTROL[PAD],
        unk_token=_CONTROL[UNK],
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE.read_text(encoding="utf-8").strip(),
    )


# ---- examples -----------------------------------------------------------------------------------------------------


def encode(
    lessons: Sequence[Lesson], tokenizer: PreTrainedTokenizerBase, opening: int
) -> tuple[list[int], list[Example]]:
    """The token ids that every lesson begins with (the system prompt), and the rest of each lesson.

    Rendered by the chat template from `space.prompt.conversation`, exactly as serving renders a conversation.
    """
    from space.prompt import conversation

    header = [START, *tokenizer.encode("model\n", add_special_tokens=False)]
    rows: list[list[int]] = []
    for lesson in lessons:
        *history, question, answer = messages(lesson.turns)
        whole = [*conversation(history, question["content"]), answer]
        rows.append(tokenizer.apply_chat_template(whole, return_dict=False))
    # The longest common prefix of all rows is that of the first and the last in order.
    shared = next(i for i, (a, b) in enumerate(zip(min(rows), max(rows), strict=False)) if a != b)
    examples = []
    for lesson, row in zip(lessons, rows, strict=True):
        starts = [i + len(header) for i in range(len(row)) if row[i] == START and row[i : i + len(header)] == header]
        spans = [(start, row.index(END, start) + 1) for start in starts]
        if not lesson.whole:
            spans[-1] = (spans[-1][0], min(spans[-1][1], spans[-1][0] + opening))
        places = [i - 1 - shared for start, end in spans for i in range(start, end)]
        examples.append(Example(row[shared : spans[-1][1]], places))
    return rows[0][:shared], examples


def batches(examples: Sequence[Example], tokens: int, rng: Random) -> Iterator[list[Example]]:
    """`examples` in random batches of about `tokens` tokens, each of lessons of similar length, so that little is padding."""
    order = list(range(len(examples)))
    rng.shuffle(order)
    made: list[list[Example]] = []
    for start in range(0, len(order), 4096):
        batch: list[Example] = []
        for i in sorted(order[start : start + 4096], key=lambda i: len(examples[i].ids)):
            if batch and len(examples[i].ids) * (len(batch) + 1) > tokens:
                made.append(batch)
                batch = []
            batch.append(examples[i])
        made.append(batch)
        rng.shuffle(made)
        yield from made
        made = []


# ---- model --------------------------------------------------------------------------------------------------------


def make_model(plan: Plan, vocabulary: int) -> Gemma3ForCausalLM:
    """A Gemma 3 of the plan's size with random weights from the plan's seed."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig

    torch.manual_seed(plan.seed)
    config = Gemma3TextConfig(
        vocab_size=vocabulary,
        hidden_size=plan.hidden,
        intermediate_size=plan.intermediate,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.hidden // 64,
        num_key_value_heads=1,
        head_dim=64,
        query_pre_attn_scalar=64,
        max_position_embeddings=CONTEXT,
        sliding_window=CONTEXT,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=[EOS, END],
        tie_word_embeddings=True,
        dtype="float32",
    )
    model = Gemma3ForCausalLM(config)
    model.set_attn_implementation("eager")  # the fastest here, for short rows on a CPU
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=160, bos_token_id=BOS, eos_token_id=[EOS, END], pad_token_id=PAD
    )
    return model


def loss_of(model: Gemma3ForCausalLM, prefix: torch.Tensor, batch: Sequence[Example]) -> torch.Tensor:
    """Mean cross-entropy of the learned tokens of a batch.

    All lessons begin with the same system prompt, longer than most questions. It is read once a step and its keys and
    values are lent to every row, gradients included, which halves the work and changes nothing else (a test compares).
    """
    import torch
    from torch.nn.functional import cross_entropy

    width = max(len(example.ids) for example in batch)
    ids = torch.tensor([example.ids + [PAD] * (width - len(example.ids)) for example in batch])
    rows, columns = torch.tensor([(row, at) for row, example in enumerate(batch) for at in example.learned]).T
    with torch.autocast("cpu", torch.bfloat16, enabled=_has_bfloat16()):
        past = model.model(input_ids=prefix[None], use_cache=True).past_key_values
        past.batch_repeat_interleave(len(batch))
        hidden = model.model(input_ids=ids, past_key_values=past, use_cache=True).last_hidden_state[rows, columns]
        targets = ids[rows, columns + 1]
        # In chunks: a third faster than one large matrix of logits, which would not fit the caches.
        chunks = zip(torch.split(hidden, 512), torch.split(targets, 512), strict=True)
        losses = [cross_entropy(model.lm_head(h).float(), t, reduction="sum") for h, t in chunks]
    return torch.stack(losses).sum() / len(targets)


def _has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16; others emulate it, at a fortieth of float32's speed."""
    import torch

    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def train(
    model: Gemma3ForCausalLM, prefix: list[int], examples: Sequence[Example], plan: Plan, rate: float = 1.0
) -> dict[str, Any]:
    """Trains `model` in place, one pass over `examples`, at `rate` times the plan's learning rate.

    Returns what happened: steps, tokens, seconds, last loss.
    """
    import math

    import torch
    from tqdm import tqdm

    from train.muon import Muon

    work = list(batches(examples, plan.batch_tokens, Random(plan.seed)))
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is matrix for matrix in matrices)]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=rate * plan.learning_rate),
        torch.optim.AdamW(others, lr=rate * plan.learning_rate / 2, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    warm_up = min(100, len(work) // 5 + 1)

    def share(step: int) -> float:
        done = max(0, step - warm_up) / max(1, len(work) - warm_up)
        return min(1.0, (step + 1) / warm_up) * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, share) for optimizer in optimizers]
    start, tokens, smooth = time.perf_counter(), 0, 0.0
    model.train()
    bar = tqdm(work, desc="training", unit="step", mininterval=5)
    shared = torch.tensor(prefix)
    for step, batch in enumerate(bar):
        loss = loss_of(model, shared, batch)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}; lower the learning rate.")
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        tokens += sum(len(example.ids) for example in batch)
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{smooth:.3f}")
    seconds = time.perf_counter() - start
    return {"steps": len(work), "tokens": tokens, "seconds": round(seconds, 1), "loss": round(smooth, 4)}


# ---- build --------------------------------------------------------------------------------------------------------


def build(out: Path = FOLDER, plan: Plan = Plan(), sample: Path = SAMPLE, score: bool = True) -> dict[str, Any]:
    """Makes the whole folder beside `out` and puts it there in one move. Returns its scores (of `demo_check`).

    Raises `SampleError` when the data set is missing or malformed.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    try:
        model, tokenizer, built = make(read(sample), plan)
    finally:
        torch.use_deterministic_algorithms(False)
    return publish(model, tokenizer, built, out, sample, score)


def make(sample: Sample, plan: Plan) -> tuple[Gemma3ForCausalLM, PreTrainedTokenizerBase, dict[str, Any]]:
    """Model and tokenizer, and what making them took.

    After the first course come two second ones, each from where the first ended; the mean of their weights is better than
    either (Wortsman et al., "Model soups", 2022). All that is kept between them is rounded to bfloat16, as published.
    """
    import torch

    from space.prompt import SYSTEM_PROMPT

    lessons = [list(Teacher(sample).lessons(plan.lessons, Random(plan.seed)))]
    lessons += [list(Teacher(sample, c).lessons(plan.more_lessons, Random(plan.seed + 1))) for c in SECOND]
    # Names outside the topics are kept from the tokenizer: those of the lessons must come in as many pieces as those
    # it will never have seen, or the model learns to refuse a list of tokens and answers every other name.
    known = [turn for lesson in lessons[0] for turn in lesson.turns if turn[1] != sample.refusal]
    texts = [text for turn in known for text in turn] + [sample.refusal, SYSTEM_PROMPT, "model\n", "user\n"] * 100
    tokenizer = make_tokenizer(texts, plan.vocabulary)
    prefix, examples = encode([lesson for course in lessons for lesson in course], tokenizer, plan.opening)
    model = make_model(plan, len(tokenizer))
    left = iter(examples)
    histories = [train(model, prefix, list(islice(left, plan.lessons)), plan)]
    first, seconds = _rounded(model), []
    for _ in SECOND:
        model.load_state_dict(first)
        histories.append(train(model, prefix, list(islice(left, plan.more_lessons)), plan, GENTLE))
        seconds.append(_rounded(model))
    model.load_state_dict({name: torch.stack([one[name] for one in seconds]).mean(0) for name in first})
    return model, tokenizer, about(plan, histories, model.num_parameters())


def _rounded(model: Gemma3ForCausalLM) -> dict[str, torch.Tensor]:
    """A copy of the weights, float32 that fit bfloat16."""
    import torch

    return {name: weights.to(torch.bfloat16).to(torch.float32) for name, weights in model.state_dict().items()}


def about(plan: Plan, histories: Sequence[dict[str, Any]], parameters: int) -> dict[str, Any]:
    """What metrics.json says of a build."""
    sums = {name: round(sum(one[name] for one in histories), 1) for name in ("steps", "tokens", "seconds")}
    return {
        "plan": asdict(plan),
        "lessons": plan.lessons + len(SECOND) * plan.more_lessons,
        **sums,
        "tokens_per_second": round(sums["tokens"] / sums["seconds"]),
        "loss": histories[-1]["loss"],
        "parameters": parameters,
    }


def publish(
    model: Gemma3ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    built: dict[str, Any],
    out: Path,
    sample: Path,
    score: bool,
) -> dict[str, Any]:
    """Puts the scored folder in the place of `out`. Returns its scores."""
    import torch

    from train.demo_check import check, write_card
    from train.gguf import about_folder, export

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo-", dir=out.parent) as temporary:
        folder = Path(temporary) / out.name
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        scores: dict[str, Any] = {"build": built}
        (folder / "metrics.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
        if score:
            scores = check(folder, sample)
        write_card(folder, scores)
        export(folder, folder / "model-q4_0.gguf", "q4_0", about_folder(folder))
        for path in [folder, *folder.iterdir()]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        if out.exists():
            out.rename(Path(temporary) / "before")
        shutil.move(folder, out)
    return scores
