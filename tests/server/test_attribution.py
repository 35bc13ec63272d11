"""Who stands out, by hand: in length, in direction among its peers, in figures that others have too."""

from __future__ import annotations

import numpy as np

from polyward_server.aggregate.diagnostics import Diagnostics, diagnose
from polyward_server.attribution import standing_out
from polyward_shared.messages import Metric, Stage
from tests.support.toy_trainer import toy_study

TASKS = toy_study(tasks={"grade": {"kind": "binary"}, "size": {"kind": "regression"}}).tasks
NAMES = ("a", "b", "c", "d", "e")
EQUAL = dict.fromkeys(NAMES, 1.0)
BOTH = dict.fromkeys(NAMES, frozenset({"grade", "size"}))


def at_angles(*degrees: float) -> Diagnostics:
    """Updates of length 1 in the plane, the first of site a."""
    turned = np.radians(degrees)
    updates = np.stack([np.cos(turned), np.sin(turned)], 1)
    sites = NAMES[: len(degrees)]
    return diagnose(sites, updates @ updates.T, dict.fromkeys(sites, 1))


ALIKE = at_angles(0, 10, 20, 30, 40)


def figures(task: str, name: str, values: list[float], count: int = 50) -> list[tuple[str, Metric]]:
    rows = [Metric(task, "test", Stage.TRAINED, name, value, count) for value in values]
    return list(zip(NAMES, rows, strict=False))


def test_nobody_stands_out_among_sites_that_are_alike() -> None:
    rows = figures("grade", "auroc", [0.7, 0.75, 0.8, 0.6, 0.9]) + figures("size", "mae", [1.0, 2.0, 3.0, 4.0, 1.5])
    assert standing_out(ALIKE, EQUAL, (), BOTH, TASKS, rows) == {}


def test_a_direction_stands_out_among_those_with_the_same_tasks_only() -> None:
    turned = at_angles(0, 10, 20, 30, 95)
    assert set(standing_out(turned, EQUAL, (), BOTH, TASKS, ())) == {"e"}
    other_tasks = {**BOTH, "e": frozenset({"grade"})}
    assert "e" not in standing_out(turned, EQUAL, (), other_tasks, TASKS, ())


def test_a_direction_that_is_a_little_odd_again_and_again_stands_out() -> None:
    odd: dict[str, float | None] = {**dict.fromkeys(NAMES, 0.35), "e": 0.30}
    assert standing_out(ALIKE, EQUAL, [odd], BOTH, TASKS, ()) == {}
    assert set(standing_out(ALIKE, EQUAL, [odd] * 12, BOTH, TASKS, ())) == {"e"}
    alike: dict[str, float | None] = dict.fromkeys(NAMES, 0.35)
    assert standing_out(ALIKE, EQUAL, [odd, *[alike] * 11], BOTH, TASKS, ()) == {}


def test_labels_of_another_unit_show_in_the_error() -> None:
    rows = figures("size", "mae", [1.0, 2.0, 1.5, 1.2, 14.0])
    assert standing_out(ALIKE, EQUAL, (), BOTH, TASKS, rows) == {"e": "mae of size 14 (trained), others 1.35"}


def test_labels_the_wrong_way_round_show_in_the_score_where_there_are_cases_enough() -> None:
    values = [0.7, 0.8, 0.75, 0.72, 0.3]
    assert "auroc of grade 0.3" in standing_out(ALIKE, EQUAL, (), BOTH, TASKS, figures("grade", "auroc", values))["e"]
    assert standing_out(ALIKE, EQUAL, (), BOTH, TASKS, figures("grade", "auroc", values, count=10)) == {}
    assert standing_out(ALIKE, EQUAL, (), BOTH, TASKS, figures("grade", "auroc", values[2:])) == {}
    assert standing_out(ALIKE, EQUAL, (), BOTH, TASKS, figures("grade", "loss", values)) == {}


def test_the_length_that_counts_is_the_one_that_came() -> None:
    """The updates may have been shortened before they are compared."""
    assert standing_out(ALIKE, {**EQUAL, "c": 7.25}, (), BOTH, TASKS, ()) == {"c": "length 7.2 times the usual"}
    assert standing_out(at_angles(0, 10), {"a": 1.0, "b": 100.0}, (), BOTH, TASKS, ()) == {}
