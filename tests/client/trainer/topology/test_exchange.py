"""Units of exchange by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polyward_client.trainer.topology.exchange import NDDR, CrossStitch, Distillation

H = {"a": torch.full((1, 2, 3, 3), 1.0), "b": torch.full((1, 2, 3, 3), 2.0), "c": torch.full((1, 2, 3, 3), 4.0)}


def test_cross_stitch_takes_nine_tenths_of_itself() -> None:
    mixed = CrossStitch(("a", "b", "c"))(H)
    assert mixed["a"].unique().tolist() == pytest.approx([0.9 * 1 + 0.05 * 2 + 0.05 * 4])
    assert mixed["c"].unique().tolist() == pytest.approx([0.9 * 4 + 0.05 * 1 + 0.05 * 2])


def test_one_present_task_keeps_the_sum_of_its_row() -> None:
    unit = CrossStitch(("a", "b", "c"))
    with torch.no_grad():
        unit.mixing[0] = torch.tensor([0.5, 0.3, 0.4])
    assert unit({"a": H["a"]})["a"].unique().tolist() == pytest.approx([1.2])


def test_a_row_whose_rest_is_nothing_is_not_blown_up() -> None:
    unit = CrossStitch(("a", "b"))
    with torch.no_grad():
        unit.mixing[0] = torch.tensor([0.0, 1.0])
    assert unit({"a": H["a"]})["a"].abs().max() <= 1


def test_nddr_starts_as_cross_stitch_and_an_absent_task_counts_as_zero() -> None:
    unit, stitch = NDDR(("a", "b", "c"), 2), CrossStitch(("a", "b", "c"))
    for task, mixed in unit(H).items():
        assert torch.allclose(mixed, stitch(H)[task])
    assert unit({"a": H["a"]})["a"].unique().tolist() == pytest.approx([0.9])


def test_distillation_passes_messages_through_gates() -> None:
    unit = Distillation(("a", "b"), 2, nn.Conv2d)
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.zero_()
        unit.values["b_to_a"].bias.fill_(3.0)  # type: ignore[operator]
    mixed = unit({"a": H["a"], "b": H["b"]})
    assert mixed["a"].unique().tolist() == [1 + 0.5 * 3]  # the gate of zeros is half open
    assert torch.equal(mixed["b"], H["b"])
    assert torch.equal(unit({"a": H["a"]})["a"], H["a"])


@pytest.mark.parametrize(("unit", "parameters"), [("cross_stitch", 12), ("nddr", 5376)])
def test_parameters_of_two_tasks_over_three_stages(unit: str, parameters: int) -> None:
    """Stages of 32, 16 and 8 channels: K^2 each, or K^2 C^2."""
    units = [CrossStitch(("a", "b")) if unit == "cross_stitch" else NDDR(("a", "b"), width) for width in (32, 16, 8)]
    assert sum(p.numel() for each in units for p in each.parameters()) == parameters
