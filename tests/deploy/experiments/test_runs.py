"""Runs in processes of their own: what is finished is kept, and only that."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from polyward_deploy.experiments.linear import Setting
from polyward_deploy.experiments.linear_bench import figures_of, planned
from polyward_deploy.experiments.runs import Run, finished
from polyward_shared.problems import Problem

QUIET = Console(quiet=True)
SMALL = Setting(sites=2, samples=6, rounds=1)


def test_a_finished_run_is_not_run_again_unless_its_settings_change(tmp_path: Path) -> None:
    """How long a run took is kept with it, and no two take exactly as long."""
    runs = planned((0,), SMALL)
    first = finished(runs, tmp_path, workers=2, talk=QUIET)
    assert [ran.settings["heads"] for ran in first] == ["own", "single"]
    assert finished(runs, tmp_path, workers=2, talk=QUIET) == first
    assert [run.kept(tmp_path) for run in planned((0,), Setting(sites=2, samples=6, rounds=2))] == [None, None]


def test_a_run_that_fails_is_told_and_not_kept(tmp_path: Path) -> None:
    bad = Run(name="bad", title="bad", work=figures_of, settings={"heads": "own"}, rounds=1)
    few = planned((0,), Setting(sites=2, samples=4, rounds=1))  # a gate tells nothing of fewer than five cases
    for runs, error in (([bad], KeyError), (few[:1], Problem)):
        with pytest.raises(error):
            finished(runs, tmp_path, workers=1, talk=QUIET)
        assert runs[0].kept(tmp_path) is None
    (tmp_path / "bad.json").write_text("{half of a file", encoding="utf-8")
    assert bad.kept(tmp_path) is None
