"""Survival: censored cases count for what is known of them, in the losses and in the figures."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from polyward_client.trainer.cells import Cell, CellError
from polyward_client.trainer.tasks.survival import SurvivalKind, c_index, integrated_brier
from polyward_shared.study import Image
from polyward_shared.tasks import Survival

NO_HEAD = nn.Identity()
NAN = math.nan
LOG2 = math.log(2)


def kind(loss: str = "hazard", event: str | None = None) -> SurvivalKind:
    task = {"kind": "survival", "times": (1, 2, 4), "loss": loss, "event": event}
    return SurvivalKind("death", Survival.model_validate(task))


def cells(*texts: str | None) -> list[Cell | None]:
    return [None if text is None else Cell("death", text, Path(), (8, 8)) for text in texts]


def rows(*pairs: tuple[float, float]) -> Tensor:
    return torch.tensor(pairs)


def test_time_and_event_stand_in_two_columns() -> None:
    assert kind().columns("death") == ("death", "death_event")
    assert kind(event="status").columns("months") == ("months", "status")
    label = kind().label(cells("2.5", "1"))
    assert label == (2.5, 1)
    assert kind().class_of((2.5, 0)) == "censored"
    assert kind().class_of((2.5, 1)) == "event"
    assert kind().label(cells(None, None)) is None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("3", None), "found '3' alone; expected time and event both stated"),
        ((None, "1"), "found '1' alone"),
        (("-1", "0"), "expected a time of 0 or more"),
        (("1", "2"), "expected one of 0, 1"),
    ],
)
def test_wrong_cells_are_told(texts: tuple[str | None, str | None], message: str) -> None:
    with pytest.raises(CellError, match=message):
        kind().label(cells(*texts))


@pytest.mark.parametrize(
    ("time", "event", "asked"),
    [
        (0.0, 1, 1),  # dies in the first interval
        (1.0, 1, 1),  # an interval holds its end
        (1.5, 1, 2),  # survives one, dies in the second
        (5.0, 1, 3),  # the event came after the last interval
        (0.4, 0, 0),  # less than half of the first interval seen
        (2.9, 0, 2),
        (3.0, 0, 3),  # half of the third
        (NAN, NAN, 0),
    ],
)
def test_each_known_interval_costs_its_logarithm(time: float, event: float, asked: int) -> None:
    found = kind().losses(torch.zeros(1, 3), rows((time, event)), NO_HEAD)
    assert found.item() == pytest.approx(asked * LOG2)


def test_hazard_loss_tells_death_from_survival() -> None:
    output = torch.tensor([[2.0, -3.0, 0.5]] * 2)
    died, censored = kind().losses(output, rows((1.5, 1), (1.5, 0)), NO_HEAD).tolist()
    first, second = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(3))
    assert died == pytest.approx(-math.log(1 - first) - math.log(second), rel=1e-5)
    assert censored == pytest.approx(-math.log(1 - first) - math.log(1 - second), rel=1e-5)


def test_cox_asks_who_of_those_at_risk_died() -> None:
    risk = torch.tensor([0.0, 5.0, math.log(2), math.log(3)])[:, None]
    found = kind("cox").losses(risk, rows((1, 1), (NAN, NAN), (2, 0), (3, 1)), NO_HEAD)
    assert found[[1, 2]].tolist() == [0, 0]  # unlabelled and censored; the unlabelled one is in no risk set
    assert found[[0, 2, 3]].mean().item() == pytest.approx(math.log(6) / 2)  # the mean over the two events


def test_cox_ties_are_breslow() -> None:
    found = kind("cox").losses(torch.zeros(3, 1), rows((1, 1), (1, 1), (1, 0)), NO_HEAD)
    assert found.mean().item() == pytest.approx(math.log(3))


def test_cox_without_events_is_zero_with_a_gradient_of_zero() -> None:
    risk = torch.tensor([[1.0], [2.0], [0.0]], requires_grad=True)
    found = kind("cox").losses(risk, rows((1, 0), (2, 0), (NAN, NAN)), NO_HEAD)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert found.tolist() == [0, 0, 0]
    assert risk.grad is not None
    assert risk.grad.tolist() == [[0], [0], [0]]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ([(1, 1), (2, 0), (0.5, 0)], True),  # one event, one case that outlived it
        ([(1, 1), (1, 0)], True),
        ([(1, 0), (2, 0)], False),  # no event
        ([(1, 1), (0.5, 0), (NAN, NAN)], False),  # nobody else was at risk
    ],
)
def test_cox_teaches_with_all_cases_of_a_risk_set_or_with_none(target: list[tuple[float, float]], told: bool) -> None:
    assert kind("cox").informs(rows(*target)).tolist() == [told] * len(target)
    assert kind("hazard").informs(rows(*target)).all()
    losses = kind("cox").losses(torch.arange(len(target))[:, None].float(), rows(*target), NO_HEAD)
    assert bool(losses.any()) == told


def test_evidence_is_the_survival_curve_or_the_risk() -> None:
    assert torch.allclose(kind().evidence(torch.zeros(1, 3)), torch.tensor([[0.5, 0.25, 0.125]]))
    assert (kind().evidence_width, kind().unsure) == (3, 0.5)
    assert kind("cox").evidence(torch.tensor([[7.0]])).item() == 7
    assert (kind("cox").evidence_width, kind("cox").unsure) == (1, 0.0)


def test_blank_is_left_out_of_every_loss() -> None:
    blank = torch.from_numpy(kind().blank(Image(size=(8, 8))))[None]
    assert kind().losses(torch.ones(1, 3), blank, NO_HEAD).item() == 0


def test_c_index_counts_the_pairs_whose_order_is_known() -> None:
    risk = torch.tensor([3.0, 1.0, 2.0])
    assert c_index(risk, rows((1, 1), (2, 1), (3, 0))) == pytest.approx(2 / 3)
    assert c_index(risk, rows((1, 1), (2, 0), (3, 0))) == 1
    assert c_index(torch.zeros(3), rows((1, 1), (2, 1), (3, 0))) == 0.5
    assert c_index(risk, rows((1, 1), (1, 1), (1, 0))) == 0.5  # deaths at one time are in no order; 3 > 2 but 1 < 2
    assert math.isnan(c_index(risk, rows((1, 0), (2, 0), (3, 0))))


def test_brier_weighs_by_the_chance_of_still_being_seen() -> None:
    truths = rows((1, 0), (2, 1), (4, 1)).double()  # one of three is censored at 1, so the others weigh 3/2
    chances = torch.tensor([[0.75, 0.5]] * 3, dtype=torch.float64)
    first, second = 0.25**2, 0.5 * 0.5**2 + 0.5 * 0.5**2
    assert integrated_brier(chances, truths, (1, 3)) == pytest.approx((first + second) / 2)
    assert integrated_brier(chances, truths, (1, 4)) == pytest.approx(first)  # nobody outlived 4
    assert math.isnan(integrated_brier(chances, truths, (4, 5)))


def test_figures_of_a_perfect_order() -> None:
    output = torch.tensor([[4.0, 4.0, 4.0], [-4.0, 4.0, 4.0], [-4.0, -4.0, -4.0]])
    found = {
        name: (value, count) for name, value, count in kind().figures(output, rows((1, 1), (2, 1), (6, 0)), NO_HEAD)
    }
    assert found["c_index"] == (1, 3)
    assert found["brier"][0] < 0.01
    risks = torch.tensor([[0.0], [1.0], [2.0]])
    assert list(kind("cox").figures(risks, rows((1, 1), (2, 1), (6, 0)), NO_HEAD)) == [("c_index", 0, 3)]
