"""From a study and its sites to the site x task table and the page: every arm is run, read from its ledger, written."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from polyward_client.site import read_site
from polyward_deploy.arms import Arm, shared_tasks, variation
from polyward_deploy.processes import federation, wait_for
from polyward_deploy.report import write_report
from polyward_deploy.results import Results, Row, print_table, table, write_results
from polyward_deploy.screen import Screen
from polyward_deploy.simulate import Watch, run_arm
from polyward_server.ledger import Ledger
from polyward_shared.problems import Problem
from polyward_shared.study import Study

LONGEST_SECONDS = 7 * 24 * 3600.0


def run_comparison(
    study: Study,
    sites: Sequence[Path],
    arms: Sequence[Arm],
    folder: Path,
    *,
    engine: str,
    workers: int,
    console: Console,
    table: Console,
) -> Path:
    """Runs the arms, prints the table, writes CSV, JSON and the page, and returns the page's path.

    The `federated` arm runs on `engine`; the others, which exist to compare with, always in this process.
    """
    _same_study(study, folder)
    owned = shared_tasks([read_site(path) for path in sites])
    arms = [arm for arm in arms if arm != "fedavg" or owned]
    began = time.monotonic()
    ledgers: dict[Arm, list[Path]] = {}
    with Screen(console, arms, [read_site(path).name for path in sites], study.rounds) as screen:
        for arm in arms:
            on = engine if arm == "federated" else "inprocess"
            ledgers[arm] = _run(study, sites, arm, folder / arm, on, workers, screen.watch)
    return _tell(study, sites, ledgers, owned, folder, time.monotonic() - began, table)
