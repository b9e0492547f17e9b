"""The loss of training and of evaluation: negative log-likelihood of the learned tokens, without the full logits.

Gemma's head has 262,144 rows. The logits of 4 x 512 positions are 2 GB in float32 and several times that with their
gradients, most of them for positions that nobody learns. Here the head sees only the positions that are learned, a chunk
at a time, and no chunk's logits outlive it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn.functional import cross_entropy

from train.packing import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 512
"""Positions whose logits exist at once: 0.5 GB in float32 with Gemma's vocabulary, three times that with their gradient."""

_SCALE = 1024.0
"""A chunk's gradient is this much larger while it is computed: in float16 most probabilities would else vanish."""


def answer_loss(
    model: torch.nn.Module, batch: Mapping[str, torch.Tensor], chunk: int = CHUNK
) -> tuple[torch.Tensor, int]:
    """The sum of negative log-likelihood (nats, float32, shape []) over the learned tokens, and their number.

    `batch` is what `train.packing.collate` gives, on the model's device; `model` a causal language model of transformers,
    bare or wrapped by PEFT, DDP or FSDP. The wrappers' own `forward` is what gets called, because DDP and FSDP do their
    part there; only the innermost model's is exchanged for the time of the call.
    """
    causal = _causal(model)
    with _forward(causal, partial(_negative_log_likelihood, causal, chunk)):
        result = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], labels=batch["labels"], use_cache=False
        )
    return cast("tuple[torch.Tensor, int]", result)


def _causal(model: torch.nn.Module) -> PreTrainedModel:
    """The transformers model with the head, inside whatever wraps it."""
    from transformers import PreTrainedModel

    return next(m for m in model.modules() if isinstance(m, PreTrainedModel) and m.get_output_embeddings() is not None)


@contextmanager
def _forward(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    before = vars(module).get("forward")  # others, accelerate among them, put one there too
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def _negative_log_likelihood(
    causal: Any,
    chunk: int,
    *,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    labels: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, int]:
    # A cache or an attention mask would make packed examples leak into one another (see train.packing).
    output = causal.base_model(input_ids=input_ids, position_ids=position_ids, use_cache=False)
    learned = labels[:, 1:] != IGNORED
    hidden = output.last_hidden_state[:, :-1][learned]  # [N, hidden size]
    targets = labels[:, 1:][learned]  # [N]
    cap = getattr(causal.config, "final_logit_softcapping", None)
    total = _HeadLoss.apply(hidden, targets, causal.get_output_embeddings(), cap, chunk)  # type: ignore[no-untyped-call]
    return total, len(targets)


class _HeadLoss(torch.autograd.Function):
    """The summed loss of hidden states [N, hidden size], whose gradient is computed with it, chunk by chunk.

    So each chunk's logits are needed once: two products with the head where checkpointing would take three. As in Liger
    Kernel's fused linear cross-entropy (Hsu et al. 2024), but the chunk's gradient is autograd's own.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, targets: torch.Tensor, head: torch.nn.Module, cap: float | None, chunk: int
    ) -> torch.Tensor:
        wanted = ctx.needs_input_grad[0]
        if wanted and any(parameter.requires_grad for parameter in head.parameters()):
            raise ValueError("the head must be frozen: its gradient is not computed")
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if wanted else None
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            with torch.set_grad_enabled(wanted):
                piece = hidden[part].detach().requires_grad_(wanted)
                loss = _chunk(head, piece, targets[part], cap)
            if gradient is not None:
                (scaled,) = torch.autograd.grad(loss, piece, torch.full_like(loss, _SCALE))
                gradient[part] = scaled / _SCALE
            total += loss.detach()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0], None, None, None, None


def _chunk(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor, cap: float | None) -> torch.Tensor:
    """The summed loss of hidden states [C, hidden size] and targets [C]."""
    logits = head(hidden).float()
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    return cross_entropy(logits, targets, reduction="sum")
