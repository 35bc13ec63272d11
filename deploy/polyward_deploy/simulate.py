"""One arm of a simulation: the real round loop, gates and trainers in this process.

Everything is kept in the arm's folder, ledger included, so an interrupted simulation goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from polyward_client.approvals import write_approval
from polyward_client.gate.gate import Gate
from polyward_client.port.interface import Progress
from polyward_client.site import Site, read_site
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.trainer import LocalTrainer
from polyward_deploy.arms import Arm, variation
from polyward_deploy.local_grid import LocalGrid, gates_by_node
from polyward_server.exchange import Presence
from polyward_server.federation import Federation
from polyward_server.ledger import Event, Ledger
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
) -> list[Path]:
    """Runs one arm with the sites of these `site.toml` files and returns its ledgers (one for each site if local).

    `start` is a file with the encoder that the study names as its first.
    """
    watch = watch or Watch()
    varied = variation(study, arm)
    if arm != "local":
        return [_run(varied, sites, arm, folder, workers, watch, start)]
    with ThreadPoolExecutor(workers) as pool:
        alone = [
            pool.submit(_run, varied, [site], arm, folder / read_site(site).name, 1, watch, start) for site in sites
        ]
        return [run.result() for run in alone]


def _run(
    study: Study, sites: Sequence[Path], arm: Arm, folder: Path, workers: int, watch: Watch, start: Path | None
) -> Path:
    ledger_path = folder / "ledger.db"
    gates = {}
    for path in sites:
        site = open_site(path, study, folder)
        gates[site.name] = Gate(site, LocalTrainer(site), watch=_progress_of(arm, site.name, watch))
    if study.participation.quorum > len(gates):
        raise Problem(
            "participation.quorum",
            f"found {study.participation.quorum}; there are {len(gates)} sites",
            remedy="lower the quorum or add sites",
        )
    nodes, by_node = gates_by_node(gates)
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(ledger_path, watch=lambda event: watch.event(arm, event))
    grid = LocalGrid(by_node, workers)
    try:
        here = _always_here(nodes)
        ledger.queue(study)
        federation = Federation(grid, lambda: here, lambda: nodes, ledger, registry_with(folder, start), tries=TRIES)
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
    name = read_site(path).name
    site = read_site(path, state=folder / "sites" / name)
    write_approval(site.approved, make_approval(study, site))
    return site


def _always_here(nodes: Mapping[str, int]) -> dict[str, Presence]:
    return {name: Presence(online=True, since=0.0) for name in nodes}


def _progress_of(arm: Arm, site: str, watch: Watch) -> Callable[[Progress], None]:
    return lambda progress: watch.progress(arm, site, progress)
