"""Before training: proof on this very machine, in seconds, that training here does what it says.

Three things go wrong without a word, each by versions or hardware: packed examples see one another, gradients are wrong
after an evaluation, or the chat template's tokens are not the text. All three are measured on the model that will train.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from space.prompt import Message, conversation
from train.errors import TrainError
from train.loss import answer_loss
from train.packing import Encoded, collate, encode, texts
from train.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LENGTHS = (31, 43, 29)
"""Tokens of the examples that isolation is tested with: 103 together, so that a 1B model on a CPU takes seconds."""

_QUESTION = "What helps against a headache?\n\nIt comes at night, 3–4 times a week. <end_of_turn>"
_ANSWER = "Rest and water often help.\n\n* Keep a diary: °C, naïve, 頭痛.\n* See a doctor if it is sudden or severe."


class Check(NamedTuple):
    """One thing that was tried."""

    name: str
    passed: bool
    detail: str


def selfcheck(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> list[Check]:
    """Tries isolation (where the recipe packs), gradients after an evaluation, and the template, on a model with adapter.

    Leaves weights, gradients, mode and random state as they were, unless the machine fails the second one: then the
    model is spoilt. About five passes over a hundred tokens.
    """
    examples = _examples(model)
    with _without_dropout(model):
        packed = _result(model, examples, [[0, 1, 2]])
        checks = [*_isolation(model, examples, packed)] if recipe.packing else []
        checks.append(_evaluation(model, examples, packed))
    return [*checks, _template(tokenizer, recipe)]


def refuse(checks: Iterable[Check]) -> None:
    """Raises `TrainError` naming the first check that failed."""
    for check in checks:
        if not check.passed:
            raise TrainError(
                f"Training on this machine would go wrong: {check.name} failed ({check.detail}); install the versions in "
                "requirements.txt, or train on another machine."
            )


# ---- isolation and evaluation -----------------------------------------------------------------------------------


class _Result(NamedTuple):
    loss: float  # summed over the learned tokens
    gradient: torch.Tensor  # of all that trains, float32, shape [parameters]


class _Limits(NamedTuple):
    loss: float
    gradient: float


def _isolation(model: torch.nn.Module, examples: Sequence[Encoded], packed: _Result) -> Iterator[Check]:
    """The last two examples behind the first one in a row, against each in a row of its own, and behind another."""
    exact = _is_exact(model)
    alone = _result(model, examples, [[1], [2]])
    # In 16 bits the two differ by rounding, as shapes choose kernels; hence the second check, where shapes are equal.
    yield _compare(
        "packing isolation (packed against alone)", alone, packed, _Limits(1e-5, 1e-4) if exact else _Limits(0.02, 0.1)
    )
    first = examples[0]
    other = Encoded(np.roll(first.ids, 7)[::-1].copy(), first.learned_from)
    beside = _result(model, [other, *examples[1:]], [[0, 1, 2]])
    yield _compare("packing isolation (beside another example)", beside, packed, _Limits(1e-6, 1e-5 if exact else 0.01))


def _evaluation(model: torch.nn.Module, examples: Sequence[Encoded], before: _Result) -> Check:
    model.eval()
    with torch.no_grad():
        answer_loss(model, _batch(model, examples, [[0, 1, 2]]))
    model.train()
    after = _result(model, examples, [[0, 1, 2]])
    return _compare("gradient after an evaluation", before, after, _Limits(1e-6, 1e-5 if _is_exact(model) else 0.01))


def _compare(name: str, expected: _Result, found: _Result, most: _Limits) -> Check:
    loss = abs(found.loss - expected.loss) / max(abs(expected.loss), 1e-12)
    norm = float(expected.gradient.norm())
    gradient = float((found.gradient - expected.gradient).norm()) / max(norm, 1e-12)
    # A comparison with NaN is false, and so is a gradient of nothing: neither passes.
    passed = loss <= most.loss and gradient <= most.gradient and norm > 0
    detail = f"loss differs by {loss:.1e} of {most.loss:.0e}, gradient by {gradient:.1e} of {most.gradient:.0e}"
    return Check(name, passed, detail)


def _examples(model: torch.nn.Module) -> list[Encoded]:
    """Examples of random ids, the same each time. The first is not learned: what others take from it is a leak."""
    vocabulary = next(module.num_embeddings for module in model.modules() if isinstance(module, torch.nn.Embedding))
    random = np.random.default_rng(0)
    ids = [random.integers(1, vocabulary, length, dtype=np.int32) for length in _LENGTHS]
    return [Encoded(part, len(part) if number == 0 else len(part) // 3) for number, part in enumerate(ids)]


def _batch(
    model: torch.nn.Module, examples: Sequence[Encoded], rows: Sequence[Sequence[int]]
) -> dict[str, torch.Tensor]:
    length = max(sum(len(examples[index]) for index in row) for row in rows)
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in collate(examples, rows, length).items()}


def _result(model: torch.nn.Module, examples: Sequence[Encoded], rows: Sequence[Sequence[int]]) -> _Result:
    loss, _ = answer_loss(model, _batch(model, examples, rows))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return _Result(float(loss.detach()), torch.cat([gradient.float().flatten() for gradient in gradients]))


@contextmanager
def _without_dropout(model: torch.nn.Module) -> Iterator[None]:
    """In training mode, but with nothing drawn at random."""
    modes = [(module, module.training) for module in model.modules()]
    drops = [(module, module.p) for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    for drop, _ in drops:
        drop.p = 0.0
    model.train()
    try:
        yield
    finally:
        for drop, p in drops:
            drop.p = p
        for module, training in modes:
            module.training = training


def _is_exact(model: torch.nn.Module) -> bool:
    """Whether everything computes in float32."""
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    kinds |= {getattr(module, "compute_dtype", None) or torch.float32 for module in model.modules()}
    return kinds == {torch.float32}


# ---- template -----------------------------------------------------------------------------------------------------


def _template(tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Check:
    """The ids, decoded, are the conversation as the template renders it, and what is learned is the answer and its end."""
    name = "template round trip"
    example = encode(_QUESTION, _ANSWER, tokenizer, replace(recipe, max_length=4096, loss="answer"))
    if example is None:
        return Check(name, False, "the prompt alone has more than 4,096 tokens")
    expected, end = _rendered(tokenizer, recipe)
    whole, learned = (
        tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        for ids in (example.ids.tolist(), example.ids[example.learned_from :].tolist())
    )
    starts = int((example.ids == tokenizer.bos_token_id).sum())
    if whole != expected:
        return Check(name, False, f"{_difference(whole, expected)}")
    if learned.lstrip(" ") != _ANSWER + end:
        return Check(name, False, f"learned: {_difference(learned, _ANSWER + end)}")
    if starts != 1:
        return Check(name, False, f"{starts} <bos> tokens instead of one")
    return Check(name, True, f"{len(example)} tokens, of them {len(example) - example.learned_from} learned")


def _rendered(tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> tuple[str, str]:
    """The conversation by another way than `train.packing`'s, and the token that ends it."""
    if recipe.prompt == "plain":
        return "".join(texts(_QUESTION, _ANSWER, tokenizer, recipe)), str(tokenizer.eos_token)
    history = [Message(role="user", content=_QUESTION), Message(role="assistant", content=_ANSWER)]
    messages = conversation(history, "?")[recipe.prompt == "turns" : -1]
    return str(tokenizer.apply_chat_template(messages, tokenize=False)).rstrip("\n"), "<end_of_turn>"


def _difference(found: str, expected: str) -> str:
    same = next((i for i, pair in enumerate(zip(found, expected, strict=False)) if len(set(pair)) > 1), len(expected))
    shown = slice(max(same - 15, 0), same + 15)
    return f"{found[shown]!r} where {expected[shown]!r} was written"
