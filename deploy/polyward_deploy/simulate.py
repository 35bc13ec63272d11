"""One arm of a simulation: the real round loop, gates and trainers in this process.

Everything is kept in the arm's folder, ledger included, so an interrupted simulation goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from polyward_client.approvals import write_approval
from polyward_client.gate.gate import Gate
from polyward_client.port.interface import Progress, Trainer
from polyward_client.site import Site, read_site
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.trainer import LocalTrainer
from polyward_deploy.arms import Arm, variation
from polyward_deploy.attendance import Attendance, Stay
from polyward_deploy.local_grid import LocalGrid, gates_by_node
from polyward_server.federation import Federation
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.registry import Registry
from polyward_server.rounds import run_study
from polyward_shared.problems import Problem
from polyward_shared.study import Study

TRIES = 3  # of a round without a quorum: nobody mends a site while a simulation runs


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told what happens: ledger events of an arm, and a site's progress within its work."""

    event: Callable[[Arm, Event], None] = lambda arm, event: None
    progress: Callable[[Arm, str, Progress], None] = lambda arm, site, progress: None


def run_arm(
    study: Study,
    sites: Sequence[Path],
    arm: Arm,
    folder: Path,
    *,
    workers: int,
    watch: Watch | None = None,
    start: Path | None = None,
    stays: Mapping[str, Stay] | None = None,
    trainers: Callable[[Site], Trainer] = LocalTrainer,
) -> list[Path]:
    """Runs one arm with the sites of these `site.toml` files and returns its ledgers (one for each site if local).

    `start` is a file with the encoder that the study names as its first, `stays` says which sites come late or leave,
    and `trainers` makes the trainer of a site.
    """
    watch = watch or Watch()
    varied = variation(study, arm)
    if arm != "local":
        return [_run(varied, sites, arm, folder, workers, watch, start, stays or {}, trainers)]
    with ThreadPoolExecutor(workers) as pool:
        alone = [
            pool.submit(_run, varied, [site], arm, folder / read_site(site).name, 1, watch, start, {}, trainers)
            for site in sites
        ]
        return [run.result() for run in alone]


def _run(
    study: Study,
    sites: Sequence[Path],
    arm: Arm,
    folder: Path,
    workers: int,
    watch: Watch,
    start: Path | None,
    stays: Mapping[str, Stay],
    trainers: Callable[[Site], Trainer],
) -> Path:
    ledger_path = folder / "ledger.db"
    attendance = Attendance({}, stays)
    gates = {}
    for path in sites:
        site = open_site(path, study, folder)
        gates[site.name] = Gate(site, trainers(site), watch=_progress_of(arm, site.name, watch, attendance))
    attendance.nodes, by_node = gates_by_node(gates)
    first = sum(stays.get(name, Stay()).first <= 1 for name in gates)
    if study.participation.quorum > first:
        raise Problem(
            "participation.quorum",
            f"found {study.participation.quorum}; there are {first} sites{' at the start' if stays else ''}",
            remedy="lower the quorum or add sites",
        )
    folder.mkdir(parents=True, exist_ok=True)

    def heard(event: Event) -> None:
        if event.what == "committed":
            attendance.round = event.round + 1
        watch.event(arm, event)

    ledger = Ledger(ledger_path, watch=heard)
    grid = LocalGrid(by_node, workers)
    try:
        last = ledger.last_round(ledger.queue(study))
        attendance.round = last.number + 1 if last else 1
        registry = registry_with(folder, start)
        federation = Federation(grid, attendance.presence, attendance.present, ledger, registry, tries=TRIES)
        run_study(study, federation)
        ledger.set_state(study.digest(), "finished")
    finally:
        grid.close()
        ledger.close()
    return ledger_path


def registry_with(folder: Path, start: Path | None) -> Registry:
    """The registry of a run, holding the encoder that it starts with, if that is a file."""
    registry = Registry(folder / "registry")
    if start is not None:
        registry.import_file(start)
    return registry


def open_site(path: Path, study: Study, folder: Path) -> Site:
    """The site with its state inside the simulation's folder, and the study approved there."""
    site = simulated_site(path, folder / "sites" / read_site(path).name)
    write_approval(site.approved, make_approval(study, site))
    return site


def simulated_site(path: Path, state: Path) -> Site:
    """The site of a `site.toml` with its state elsewhere, and without the rules that are against a hub.

    No hub is there that could ask a site alone, or at a wrong time.
    """
    file = read_site(path).file
    policy = file.policy.model_copy(update={"minimum_sites": 1, "hours": ()})
    return Site(path, file.model_copy(update={"policy": policy}), state)


def _progress_of(arm: Arm, site: str, watch: Watch, attendance: Attendance) -> Callable[[Progress], None]:
    def told(progress: Progress) -> None:
        attendance.progressed[site] = time.time()
        watch.progress(arm, site, progress)

    return told
