"""What a model thinks of given tokens: their negative log-likelihoods, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from train.packing import IGNORED, Encoded, collate

BATCH = 8192
"""Tokens of a batch, padding included."""
CHUNK = 512
"""Positions whose logits exist at once: 0.5 GB in float32 with Gemma's vocabulary."""


def token_losses(model: Any, examples: Sequence[Encoded], batch: int = BATCH) -> list[np.ndarray]:
    """Negative log-likelihood (nats) of each example's learned tokens: float32 of shape [learned tokens], in their order.

    Puts the model into evaluation mode. Unlike `train.loss` it keeps the tokens apart, so that one pass gives the loss
    of the answer, of the whole sequence and of every example.
    """
    device = next(model.parameters()).device
    found: list[np.ndarray] = [np.empty(0, np.float32)] * len(examples)
    model.eval()
    with torch.inference_mode():
        for indices in _batches([len(example) for example in examples], batch):
            # Padded on the right and without a mask: with causal attention nothing sees what comes after it.
            inputs = collate(examples, [[index] for index in indices], len(examples[indices[-1]]))
            losses = _losses(model, {name: tensor.to(device) for name, tensor in inputs.items()})
            counts = (inputs["labels"] != IGNORED).sum(dim=1).tolist()
            for index, part in zip(indices, torch.split(losses, counts), strict=True):
                found[index] = part.numpy()
    return found


def _batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in batches of at most `size` tokens (or one example), the longest last."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and lengths[index] * (len(batch) + 1) > size:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _losses(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The learned tokens' losses, one row of the batch after another, on the CPU."""
    output = model.get_decoder()(input_ids=inputs["input_ids"], position_ids=inputs["position_ids"], use_cache=False)
    learned = inputs["labels"][:, 1:] != IGNORED
    hidden, targets = output.last_hidden_state[:, :-1][learned], inputs["labels"][:, 1:][learned]
    head, cap = model.get_output_embeddings(), getattr(model.config, "final_logit_softcapping", None)
    losses = [torch.empty(0)]
    for start in range(0, len(targets), CHUNK):
        logits = head(hidden[start : start + CHUNK]).float()
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
        losses.append(cross_entropy(logits, targets[start : start + CHUNK], reduction="none").cpu())
    return torch.cat(losses)
