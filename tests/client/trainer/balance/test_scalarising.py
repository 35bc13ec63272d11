"""Weights from losses, by hand and against torchjd's scalarisers; what learns, learns in the right direction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torchjd import scalarization

from polyward_client.trainer.balance.balancer import Balancer
from polyward_shared.training import Balancer as Config

LOSSES = {"a": 0.5, "b": 2.0, "c": 8.0}
GRAM = torch.diag(torch.tensor([1.0, 4.0, 16.0]))


def make(kind: str, names: str = "abc", task_weights: dict[str, float] | None = None, **options: Any) -> Balancer:
    return Balancer(Config(kind=kind, **options), tuple(names), task_weights or dict.fromkeys(names, 1.0))


def ask(
    balancer: Balancer, losses: dict[str, float], gram: torch.Tensor | None = None, jacobian: torch.Tensor | None = None
) -> list[float]:
    tensors = {name: torch.tensor(loss) for name, loss in losses.items()}
    found = balancer.weights(tensors, gram, np.random.default_rng(0), jacobian)
    assert list(found) == list(losses)
    return [weight.item() for weight in found.values()]


def test_equal_divides_by_the_number_present() -> None:
    assert ask(make("equal"), {"a": 1.0, "c": 2.0}) == [0.5, 0.5]


def test_fixed_takes_the_weights_of_the_study() -> None:
    balancer = make("fixed", task_weights={"a": 1.0, "b": 2.0, "c": 6.0})
    assert ask(balancer, {"c": 1.0, "b": 1.0}) == [3.0, 1.0]


def test_gls_is_the_gradient_of_the_geometric_mean() -> None:
    """(0.5 * 2 * 8)^(1/3) = 2, over 3 L."""
    assert ask(make("gls"), LOSSES) == pytest.approx([2 / 1.5, 2 / 6, 2 / 24])


def test_rlw_is_a_softmax_of_the_generators_normal_numbers() -> None:
    drawn = np.exp(np.random.default_rng(0).standard_normal(3, dtype="float32"))
    assert ask(make("rlw"), LOSSES) == pytest.approx((drawn / drawn.sum()).tolist())


def test_dwa_by_hand() -> None:
    balancer = make("dwa", temperature=2.0)
    assert ask(balancer, LOSSES) == [1, 1, 1]
    ask(balancer, {"a": 1.5, "b": 2.0, "c": 8.0})  # a's mean of the epoch is 1
    balancer.end_epoch()
    assert ask(balancer, {"a": 0.5, "b": 2.0, "c": 4.0}) == [1, 1, 1]
    balancer.end_epoch()
    wanted = np.exp(np.array([0.5, 1.0, 0.5]) / 2)
    assert ask(balancer, LOSSES) == pytest.approx((3 * wanted / wanted.sum()).tolist())


def test_dwa_takes_a_task_without_a_past_as_one_that_stands_still() -> None:
    balancer = make("dwa")
    for loss in (4.0, 2.0):
        ask(balancer, {"a": loss})
        balancer.end_epoch()
    wanted = np.exp(np.array([0.5, 1.0]) / 2)
    assert ask(balancer, {"a": 1.0, "b": 1.0}) == pytest.approx((2 * wanted / wanted.sum()).tolist())


@pytest.mark.parametrize("kind", ["uncertainty", "imtl_l"])
def test_learnt_weights_follow_torchjd_under_adam(kind: str) -> None:
    """Our closed-form gradients and Adam against autograd through torchjd's scalariser and torch's Adam."""
    theirs: torch.nn.Module = scalarization.UW(3) if kind == "uncertainty" else scalarization.IMTLL(3)
    optimiser = torch.optim.Adam(theirs.parameters(), lr=0.1)
    balancer = make(kind, rate=0.1)
    for step in range(20):
        losses = torch.tensor([0.5 + step % 3, 2.0, 8.0], requires_grad=True)
        optimiser.zero_grad()
        theirs(losses).backward()
        optimiser.step()
        assert losses.grad is not None
        found = ask(balancer, dict(zip("abc", losses.tolist(), strict=True)))
        assert found == pytest.approx(losses.grad.tolist(), rel=1e-4)


@pytest.mark.parametrize("kind", ["uncertainty", "imtl_l"])
def test_learnt_weights_settle_at_the_inverse_of_the_loss(kind: str) -> None:
    balancer = make(kind, rate=0.05)
    found = [ask(balancer, LOSSES) for _ in range(400)][-1]
    factor = 0.5 if kind == "uncertainty" else 1.0
    assert found == pytest.approx([factor / loss for loss in LOSSES.values()], rel=0.02)


def test_uncertainty_starts_at_one_half_and_moves_by_the_rate() -> None:
    balancer = make("uncertainty", rate=0.1)
    assert ask(balancer, LOSSES) == [0.5, 0.5, 0.5]
    down, up = 0.5 * math.exp(-0.1), 0.5 * math.exp(0.1)  # Adam's first step is the rate: s grows where L > 1
    assert ask(balancer, LOSSES) == pytest.approx([up, down, down])


def test_famo_follows_torchjd() -> None:
    theirs = scalarization.FAMO(3, lr=0.025, weight_decay=1e-2)
    balancer = make("famo")
    for step in range(10):
        losses = torch.tensor([0.5, 2.0 / (step + 1), 8.0], requires_grad=True)
        later = torch.tensor([0.4, 1.9 / (step + 1), 8.1])
        theirs(losses).backward()  # type: ignore[no-untyped-call]
        theirs.update(later)
        assert losses.grad is not None
        assert ask(balancer, dict(zip("abc", losses.tolist(), strict=True))) == pytest.approx(
            losses.grad.tolist(), rel=1e-4
        )
        balancer.after(dict(zip("abc", later.unbind(), strict=True)))


def test_famo_turns_to_the_task_that_gained_least() -> None:
    balancer = make("famo", names="ab")
    assert balancer.wants_after
    before = ask(balancer, {"a": 1.0, "b": 1.0})
    assert before == pytest.approx([0.5, 0.5])
    balancer.after({"a": torch.tensor(0.5), "b": torch.tensor(1.0)})
    after = ask(balancer, {"a": 1.0, "b": 1.0})
    assert after[0] < 0.5 < after[1]
    assert sum(after) == pytest.approx(1)


def test_gradnorm_moves_weight_from_long_gradients_to_short_ones() -> None:
    balancer = make("gradnorm", rate=0.1, alpha=0.0)
    assert ask(balancer, LOSSES, GRAM) == [1, 1, 1]
    found = ask(balancer, LOSSES, GRAM)
    assert found == pytest.approx([1.1 * 3 / 3.1, 1.1 * 3 / 3.1, 0.9 * 3 / 3.1])  # the mean length is 7/3
    found = [ask(balancer, LOSSES, GRAM) for _ in range(600)][-1]
    assert [weight * length for weight, length in zip(found, (1, 2, 4), strict=True)] == pytest.approx(
        [12 / 7] * 3, rel=0.1
    )


def test_gradnorm_gives_more_to_a_task_that_is_slow() -> None:
    """Losses against the first ever: b is where it began, a has come halfway."""
    balancer = make("gradnorm", names="ab", rate=0.1)
    gram = torch.eye(2)
    ask(balancer, {"a": 4.0, "b": 1.0}, gram)
    ask(balancer, {"a": 2.0, "b": 1.0}, gram)
    found = ask(balancer, {"a": 2.0, "b": 1.0}, gram)
    assert found[0] < 1 < found[1]
    assert balancer.get_buffer("reference").tolist() == [4, 1]


def test_db_mtl_gives_the_gradients_of_log_losses_equal_lengths() -> None:
    """J / L = (3, 0) and (0, 2): the first step's averages are these, and b's is drawn out to 3."""
    balancer = make("db_mtl", names="ab")
    jacobian = torch.tensor([[6.0, 0.0], [0.0, 1.0]])
    assert ask(balancer, {"a": 2.0, "b": 0.5}, jacobian @ jacobian.T, jacobian) == pytest.approx([1.0, 1.5])
    averages = balancer.gradients("ab", jacobian)
    assert averages.flatten().tolist() == pytest.approx([3.0, 0.0, 0.0, 2.0], rel=1e-5)


def test_db_mtl_remembers_gradients() -> None:
    """decay 0.5: (0.25 * 4 + 0.5 * 1) / 0.75 = 2 after gradients 4 and 1."""
    balancer = make("db_mtl", names="a", decay=0.5)
    for value in (4.0, 1.0):
        jacobian = torch.tensor([[value]])
        ask(balancer, {"a": 1.0}, jacobian**2, jacobian)
    assert balancer.gradients("a", jacobian).item() == pytest.approx(2.0)
