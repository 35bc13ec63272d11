"""A record of finished work is read as it was kept."""

from __future__ import annotations

from pathlib import Path

from polyward_client.port.interface import Done
from polyward_client.trainer.spool import Spool
from polyward_shared.messages import Metric, Stage


def test_figures_are_kept_with_their_intervals(tmp_path: Path) -> None:
    rows = (
        Metric("mask", "test", Stage.FINAL, "dice", 0.5, 5, low=0.25, high=0.75),
        Metric("mask", "test", Stage.FINAL, "loss", 1.5, 5),
    )
    done = Done(samples=5, counts={"mask": 5}, metrics=rows, update=None, seconds=0.1)
    spool = Spool(tmp_path, "s" * 64)
    spool.keep_done(done, 3, "d" * 64, final=True)
    assert spool.done(3, "d" * 64, final=True) == done
    assert spool.done(3, "d" * 64, final=False) is None
