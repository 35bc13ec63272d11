"""Regression: the loss is in units of the site's own spread, the figures in the label's unit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polyward_client.trainer.tasks.regression import RegressionKind
from polyward_shared.tasks import Regression

KIND = RegressionKind("age", Regression(kind="regression", unit="years"))


def fitted(*targets: float) -> nn.Module:
    head = KIND.head(4)
    KIND.fit(head, torch.tensor(targets))
    return head


def test_a_head_takes_mean_and_spread_from_the_training_labels() -> None:
    assert fitted(2, 4, 6, 8).get_buffer("target").tolist() == pytest.approx([5, 5**0.5])
    assert fitted(3, 3).get_buffer("target").tolist() == [3, 1]
    assert fitted().get_buffer("target").tolist() == [0, 1]


def test_the_loss_by_hand() -> None:
    """Standardised labels are -1 and 1; smooth L1 is half the square below 1, and the distance less a half above."""
    losses = KIND.losses(torch.tensor([[-0.5], [3.0]]), torch.tensor([8.0, 12.0]), fitted(8, 12))
    assert losses.tolist() == pytest.approx([0.125, 1.5])


def test_figures_are_in_the_labels_unit() -> None:
    figures = {name: value for name, value, _ in KIND.figures(torch.tensor([[0.0], [2.0]]), HELD, fitted(8, 12))}
    assert figures["mae"] == pytest.approx(2)  # 10 for 8, 14 for 12
    assert figures["rmse"] == pytest.approx(2)
    assert figures["r2"] == pytest.approx(0)


HELD = torch.tensor([8.0, 12.0])
