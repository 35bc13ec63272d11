"""What is handed on tells nothing of few patients, not even to someone who knows how counts are held back."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import product
from pathlib import Path

import pytest

from polyward_client.trainer.counts import TOTAL, WITHHELD, safe_census, safe_row, write_census
from polyward_client.trainer.manifest import Census
from tests.support.images import make_study


def test_a_small_count_is_not_left_alone() -> None:
    assert safe_row(40, {"a": 20, "b": 20}, 5) == {TOTAL: "40", "a": "20", "b": "20"}
    assert safe_row(43, {"a": 20, "b": 3, "c": 20}, 5) == {TOTAL: "43", "a": WITHHELD, "b": WITHHELD, "c": WITHHELD}
    assert safe_row(4, {"a": 4, "b": 0}, 5) == {TOTAL: "<5", "a": "<5", "b": "<5"}
    assert safe_row(7, {}, 5) == {TOTAL: "7"}


@pytest.mark.parametrize(("minimum", "classes"), [(3, 2), (3, 3), (5, 2), (2, 3), (2, 4), (3, 4)])
def test_no_small_count_can_be_worked_out(minimum: int, classes: int) -> None:
    """Every table with counts up to 8: some other table that is published alike has another value there."""
    names = "abcd"[:classes]
    alike = defaultdict(list)
    for counts in product(range(9), repeat=classes):
        row = safe_row(sum(counts), dict(zip(names, counts, strict=True)), minimum)
        alike[tuple(row.items())].append(counts)
    for tables in alike.values():
        for place in range(classes):
            values = {counts[place] for counts in tables}
            assert len(values) > 1 or min(values) >= minimum, tables


def test_the_census_for_others(tmp_path: Path) -> None:
    study = make_study(tasks=["bright", "area"])
    counts = Census(
        {("bright", "train"): 12, ("bright", "val"): 3, ("area", "train"): 12},
        {("bright", "train", "0"): 9, ("bright", "train", "1"): 3, ("bright", "val", "0"): 3},
        12,
    )
    counted = safe_census(counts, study, ("bright", "area"), 5)
    path = tmp_path / "new" / "census.json"
    write_census(path, counted, site="north", study=study, minimum=5)
    assert path.stat().st_mode & 0o777 == 0o600
    tasks = json.loads(path.read_text())["tasks"]
    assert tasks["bright"]["train"] == {"labels": "12", "classes": {"0": WITHHELD, "1": WITHHELD}}
    assert tasks["bright"]["val"] == {"labels": "<5", "classes": {"0": "<5", "1": "<5"}}
    assert tasks["area"]["train"] == {"labels": "12", "classes": {}}
