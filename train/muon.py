"""Muon: momentum whose step for a matrix has all its singular values brought near one.

From Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the scale of the step is that of Liu
et al., "Muon is scalable for LLM training" (2025), under which AdamW's weight decay fits. In float32: `torch.optim.Muon`
orthogonalises in bfloat16, which CPUs without it emulate at a fortieth of the speed.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan et al.'s coefficients: steepest at zero, so five rounds bring every singular value to between 0.7 and 1.2."""


class Muon(torch.optim.Optimizer):
    """For matrices only; what is looked up in, added or multiplied by elements needs another optimizer."""

    def __init__(
        self, matrices: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.1
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of Nesterov momentum along the orthogonalised gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                mean = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonal(parameter.grad.lerp(mean, group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * 0.2 * max(parameter.shape) ** 0.5)


def orthogonal(matrix: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """The nearest matrix [m, n] with orthonormal rows or columns, roughly, by Newton and Schulz's iteration."""
    a, b, c = _QUINTIC
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: torch.Tensor = wide / (wide.norm() + 1e-7)  # type: ignore[no-untyped-call]
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
