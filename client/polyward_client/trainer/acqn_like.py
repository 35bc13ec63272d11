"""An adaptive cubic quasi-Newton optimiser: reconstructed, not the authors' method.

Of ACQN-H (Liu et al., Med Phys 50:1528, 2023, doi 10.1002/mp.15969) only abstracts were at hand, and no code. They name
its parts: a diagonal approximation of the Hessian, the norm of the difference of the two previous estimates, and a
moving average of a higher moment of that approximation. The diagonal is that of Apollo (Ma, arXiv 2009.13586), which is
published. How the parts join, and all constants, are ours. Figures of the paper do not carry over to this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

STATE = ("average", "curvature", "square", "direction")  # m, B, V and d of the formulas


class AdaptiveCubicQuasiNewton(torch.optim.Optimizer):
    """Reconstructed, not the authors' method. For each parameter tensor x with gradient g, in its step t = 1, 2, ...:

        m_t = (beta1 (1 - beta1^(t-1)) m_{t-1} + (1 - beta1) g_t) / (1 - beta1^t)        average, bias corrected
        a_t = d_{t-1} . (m_t - m_{t-1} + B_{t-1} d_{t-1}) / (|d_{t-1}|_4 + eps)^4
        B_t = B_{t-1} - a_t d_{t-1}^2                                                    weak secant: d.B_t d = -d.dm
        V_t = beta2 V_{t-1} + (1 - beta2) B_t^2                                          second moment of the curvature
        D_t = max(sqrt(V_t / (1 - beta2^(t-1))), bound) + sigma |x_t - x_{t-1}|_2        the last is the cubic term
        d_t = m_t / D_t
        x_{t+1} = (1 - r_t decay) x_t - r_t d_t,       r_t = rate min(1, t / warmup)

    The first step has no direction before it: B_1 = V_1 = 0, so the average of V counts from the second. As in Apollo,
    the secant takes d for the step, so B is the curvature times the rate, and where it exceeds `bound` the step is
    Newton's whatever the rate is; elsewhere the rate is that of gradient descent at rate / bound. The cubic term leaves
    weight decay out of the difference and keeps long steps short; `bound` and `sigma` were chosen on two toy networks
    for rates of 1e-3 to 1e-2. State: four tensors of the parameter's shape, and t.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        bound: float = 1e-3,
        sigma: float = 0.1,
        warmup: int = 10,
        weight_decay: float = 0.0,
        eps: float = 1e-4,
    ) -> None:
        super().__init__(
            parameters,
            {
                "lr": rate,
                "betas": betas,
                "bound": bound,
                "sigma": sigma,
                "warmup": warmup,
                "weight_decay": weight_decay,
                "eps": eps,
            },
        )

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Moves every parameter that has a gradient. Returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state |= {"step": 0, "rate": 0.0} | {name: torch.zeros_like(parameter) for name in STATE}
        average, curvature, square, direction = (state[name] for name in STATE)
        (beta1, beta2), state["step"] = group["betas"], state["step"] + 1
        step: int = state["step"]

        change = (gradient - average).mul_((1 - beta1) / (1 - beta1**step))  # the average's formula, by its difference
        average.add_(change)
        excess = (direction * (change.addcmul_(curvature, direction))).sum()
        curvature.addcmul_(direction.square(), -excess / (torch.linalg.vector_norm(direction, 4) + group["eps"]) ** 4)
        square.mul_(beta2).addcmul_(curvature, curvature, value=1 - beta2)
        scale = (square / (1 - beta2 ** max(step - 1, 1))).sqrt_().clamp_(min=group["bound"])
        scale.add_(torch.linalg.vector_norm(direction) * (group["sigma"] * state["rate"]))

        torch.div(average, scale, out=direction)
        rate = state["rate"] = group["lr"] * min(1.0, step / max(group["warmup"], 1))
        parameter.mul_(1 - rate * group["weight_decay"]).sub_(direction, alpha=rate)
