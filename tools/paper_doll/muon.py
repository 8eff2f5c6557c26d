"""Muon: momentum whose every step is made orthogonal, for the matrices inside a network.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the step has the size
AdamW's would have (Liu et al. 2025, arXiv 2502.16982, eq. 4), so both take the same learning rate.
`torch.optim.Muon` does the same in bfloat16, which processors without it emulate slowly, and takes no
convolutions; here a kernel counts as the matrix of its output channels.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that pulls singular values towards 1
ITERATIONS = 5
ADAMW_SIZE = 0.2  # root mean square of an AdamW step, in learning rates


def is_hidden(name: str, parameter: nn.Parameter) -> bool:
    """Matrices and kernels inside the network; not its first and last layer, biases, norms, time embedding."""
    return parameter.ndim >= 2 and not name.startswith(("unet.conv_in", "unet.conv_out", "unet.time_embedding"))


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest orthogonal matrices, roughly (singular values 0.7 to 1.2). (N, rows, columns)."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 1e-3,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            same: dict[tuple[int, int], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    same.setdefault((len(parameter), parameter[0].numel()), []).append(parameter)
            for (rows, columns), parameters in same.items():
                steps = torch.stack([self._nesterov(p, group).reshape(rows, columns) for p in parameters])
                size = ADAMW_SIZE * max(rows, columns) ** 0.5 * group["lr"]
                for parameter, step in zip(parameters, orthogonal(steps), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(step.reshape(parameter.shape), alpha=size)

    def _nesterov(self, parameter: nn.Parameter, group: dict[str, Any]) -> torch.Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        return parameter.grad.lerp(state["momentum"], group["momentum"])
