"""From question and answer to training rows: token ids, which of them are learned, and packing into [B, L].

The one owner of the loss mask. The prompt is rendered with the same chat template and the same words as in serving
(`space.prompt`); what is learned is what the model has to write after it.

Several examples share a row and must not see one another. What isolates them is `position_ids` that restart at each
example, together with *no* attention_mask and `use_cache=False` (`train.loss`): transformers then finds the borders by
itself. With a mask of ones, or with a cache, the examples leak into one another and nothing warns; `train.selfcheck` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from space.prompt import Message, conversation, neutralise
from train.errors import TrainError
from train.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a position that is not learned, as torch's cross-entropy has it."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """One example: its token ids, int32 of shape [n], and the place of the first that is learned; all after it are too."""

    ids: np.ndarray
    learned_from: int

    def __len__(self) -> int:
        return len(self.ids)


def encode(question: str, answer: str, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Encoded | None:
    """The example's tokens, at most `recipe.max_length` of them, with one <bos>.

    Learned are the answer and the token that ends it, or with loss "sequence" everything behind the first token, which
    nothing comes before. An answer that is too long loses its end, and with it the token that would teach to stop there.
    None where the prompt leaves no room for any of the answer; the caller counts those.
    Raises `TrainError` for a chat template that does not repeat the prompt when the answer is added.
    """
    asked, told = texts(question, answer, tokenizer, recipe)
    # Tokenised apart, so that the prompt's ids are exactly those of serving whatever the answer begins with.
    prompt, written = (tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in (asked, told))
    if len(prompt) >= recipe.max_length:
        return None
    ids = np.asarray([*prompt, *written][: recipe.max_length], dtype=np.int32)
    return Encoded(ids, len(prompt) if recipe.loss == "answer" else 1)


def texts(question: str, answer: str, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> tuple[str, str]:
    """The prompt as serving renders it, and what the model is to write: the answer and its end. Control tokens included."""
    if recipe.prompt == "plain":  # the space is the answer's: a word and the space before it are one token
        prompt = f"{tokenizer.bos_token or ''}Question: {neutralise(question)}\nAnswer:"
        return prompt, f" {neutralise(answer)}{tokenizer.eos_token}"
    messages = conversation([], question)[recipe.prompt == "turns" :]  # the system message comes first
    asked = str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    messages.append(Message(role="assistant", content=neutralise(answer)))
    whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    if not whole.startswith(asked):
        raise TrainError(
            f"The chat template of {recipe.base} renders a question differently once it is answered, so the answer's "
            "tokens cannot be told from the prompt's; choose a base with a plain template, or prompt: plain."
        )
    return asked, whole[len(asked) :].rstrip()  # the newline behind <end_of_turn> belongs to the next turn


def arrange(lengths: Sequence[int], recipe: Recipe) -> list[list[int]]:
    """The examples of each row, by their index: packed into rows of `recipe.max_length` tokens, or one a row."""
    return best_fit(lengths, recipe.max_length) if recipe.packing else [[index] for index in range(len(lengths))]


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of at most `capacity` tokens, as lists of indices into `lengths`; the same for the same lengths.

    Best-fit decreasing: the longest first, each into the fullest row that still has room for it (Johnson 1973: at most
    11/9 of the fewest possible rows, and a few). O(n log n) for the sort; the row is found in a bitmask of the room left.
    Raises `ValueError` for a length that is not from 1 to `capacity`.
    """
    if len(lengths) and not 1 <= min(lengths) <= max(lengths) <= capacity:
        raise ValueError(f"lengths must be from 1 to {capacity}, not from {min(lengths)} to {max(lengths)}")
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(capacity + 1)]  # by the room left in them
    rooms = 0  # bit r is set while open_rows[r] holds any
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[index]
        if fitting := rooms >> length:
            room = length + (fitting & -fitting).bit_length() - 1  # the lowest bit set
            row = open_rows[room].pop()
            if not open_rows[room]:
                rooms ^= 1 << room
            rows[row].append(index)
        else:
            room, row = capacity, len(rows)
            rows.append([index])
        if left := room - length:
            open_rows[left].append(row)
            rooms |= 1 << left
    return rows


def collate(
    examples: Sequence[Encoded], rows: Sequence[Sequence[int]], length: int, pad: int = 0
) -> dict[str, torch.Tensor]:
    """The batch of these rows: `input_ids`, `position_ids` and `labels`, each int64 of shape [B, L] with L = `length`.

    Positions restart at 0 with each example. Labels are the ids themselves where they are learned (the model shifts), and
    `IGNORED` elsewhere; an example's first token never is, for in a packed row the one before it belongs to another.
    What is left of a row is `pad`, continuing the last example's positions: nothing learned comes after it, and so
    nothing learned attends to it. On purpose there is no attention_mask.
    """
    import torch

    ids = np.full((len(rows), length), pad, dtype=np.int64)
    positions = np.zeros_like(ids)
    labels = np.full_like(ids, IGNORED)
    for i, row in enumerate(rows):
        start = 0
        for example in (examples[index] for index in row):
            stop, learned = start + len(example), start + max(example.learned_from, 1)
            ids[i, start:stop] = example.ids
            labels[i, learned:stop] = example.ids[learned - start :]
            positions[i, start:] = np.arange(length - start)
            start = stop
    return {
        "input_ids": torch.from_numpy(ids),
        "position_ids": torch.from_numpy(positions),
        "labels": torch.from_numpy(labels),
    }
