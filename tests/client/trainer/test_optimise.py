"""The optimisers: two of torch's, and one of ours checked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polyward_client.trainer.acqn_like import AdaptiveCubicQuasiNewton
from polyward_client.trainer.optimise import build_optimiser
from polyward_shared.training import Training


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def stepped(optimiser: torch.optim.Optimizer, moved: nn.Parameter, curvature: torch.Tensor) -> float:
    """One step on the loss 1/2 sum(h x^2); returns the loss before it."""
    loss = (curvature * moved.square()).sum() / 2
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return loss.item()


def test_adamw_moves_by_its_rate_first_and_decays_the_weight_apart() -> None:
    moved = parameter(1.0)
    stepped(build_optimiser([moved], 0.1, Training(weight_decay=0.5)), moved, torch.tensor([8.0]))
    assert moved.item() == pytest.approx(1 * (1 - 0.1 * 0.5) - 0.1)


def test_sgd_keeps_its_momentum() -> None:
    moved = parameter(1.0)
    optimiser = build_optimiser([moved], 0.1, Training(optimiser="sgd", momentum=0.5, weight_decay=0))
    stepped(optimiser, moved, torch.tensor([2.0]))
    assert moved.item() == pytest.approx(1 - 0.1 * 2)
    stepped(optimiser, moved, torch.tensor([2.0]))
    assert moved.item() == pytest.approx(0.8 - 0.1 * (1.6 + 0.5 * 2))


def test_the_quasi_newton_step_by_hand() -> None:
    moved = parameter(1.0)
    optimiser = AdaptiveCubicQuasiNewton([moved], 1.0, betas=(0.5, 0.5), bound=1.0, sigma=0.5, warmup=1, eps=1e-8)
    # Step 1: g = 2, m = 2, B = 0, D = bound = 1, d = 2, x = 1 - 2.
    stepped(optimiser, moved, torch.tensor([2.0]))
    assert moved.item() == pytest.approx(-1)
    # Step 2: g = -2, m = (0.5 * 0.5 * 2 - 0.5 * 2) / 0.75 = -2/3, B = -(m - 2) / d = 4/3, above the bound;
    # D = 4/3 + 0.5 * |-2| = 7/3, d = -2/7, x = -1 + 2/7.
    stepped(optimiser, moved, torch.tensor([2.0]))
    state = optimiser.state[moved]
    assert state["average"].item() == pytest.approx(-2 / 3)
    assert state["curvature"].item() == pytest.approx(4 / 3)
    assert state["square"].item() == pytest.approx(0.5 * 16 / 9)
    assert state["direction"].item() == pytest.approx(-2 / 7)
    assert moved.item() == pytest.approx(-5 / 7)


def test_the_diagonal_keeps_the_weak_secant_equation() -> None:
    moved = parameter(1.0, -2.0, 0.5)
    optimiser = AdaptiveCubicQuasiNewton([moved], 0.1, bound=0.5, eps=1e-8)
    for _ in range(3):
        stepped(optimiser, moved, torch.tensor([1.0, 3.0, 0.2]))
    before = {name: value.clone() for name, value in optimiser.state[moved].items() if isinstance(value, torch.Tensor)}
    stepped(optimiser, moved, torch.tensor([1.0, 3.0, 0.2]))
    direction, change = before["direction"], optimiser.state[moved]["average"] - before["average"]
    reached = (optimiser.state[moved]["curvature"] * direction.square()).sum()
    assert reached.item() == pytest.approx(-(direction * change).sum().item(), rel=1e-4)


def test_the_warm_up_rises_with_the_steps_and_the_decay_is_apart() -> None:
    moved = parameter(1.0)
    optimiser = AdaptiveCubicQuasiNewton([moved], 0.1, bound=1.0, warmup=4, weight_decay=0.5)
    stepped(optimiser, moved, torch.tensor([2.0]))
    assert moved.item() == pytest.approx(1 * (1 - 0.025 * 0.5) - 0.025 * 2)


@pytest.mark.parametrize("rate", [1e-3, 1e-2])
def test_it_reaches_the_bottom_of_a_convex_quadratic(rate: float) -> None:
    moved, curvature = parameter(*[1.0] * 10), torch.logspace(-1, 1, 10)
    optimiser = build_optimiser([moved], rate, Training(optimiser="acqn_like", weight_decay=0))
    first = stepped(optimiser, moved, curvature)
    for _ in range(400):
        last = stepped(optimiser, moved, curvature)
    assert last < 1e-4 * first


def test_four_tensors_for_each_parameter_and_none_without_a_gradient() -> None:
    moved, still = nn.Parameter(torch.ones(2, 3)), parameter(1.0)
    optimiser = build_optimiser([moved, still], 0.1, Training(optimiser="acqn_like"))
    moved.sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    tensors = [value for value in optimiser.state[moved].values() if isinstance(value, torch.Tensor)]
    assert [tensor.shape for tensor in tensors] == [moved.shape] * 4
    assert still not in optimiser.state
    assert still.item() == 1


def test_a_gradient_of_zero_moves_nothing_and_stays_finite() -> None:
    moved = parameter(1.0)
    optimiser = build_optimiser([moved], 0.1, Training(optimiser="acqn_like", weight_decay=0))
    for _ in range(3):
        stepped(optimiser, moved, torch.tensor([0.0]))
    assert moved.item() == 1
