"""From a study and its sites to the site x task table and the page: run every arm, read its ledger, write it down."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence, Set
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import cast

import psutil
from rich.console import Console

from polyward_client.site import Site, read_site
from polyward_deploy.arms import Arm, variation
from polyward_deploy.attendance import Stay
from polyward_deploy.generated import device_note, is_generated
from polyward_deploy.methods import shared_tasks
from polyward_deploy.processes import federation, wait_for
from polyward_deploy.report import write_report
from polyward_deploy.results import (
    Choice,
    Results,
    Row,
    SiteData,
    Turn,
    print_table,
    retold,
    table,
    write_results,
)
from polyward_deploy.screen import Screen
from polyward_deploy.simulate import Watch, run_arm
from polyward_server.ledger import Ledger
from polyward_server.records import RUNS
from polyward_server.registry import Registry
from polyward_shared.messages import Kept
from polyward_shared.problems import Problem
from polyward_shared.study import Study

LONGEST_SECONDS = 7 * 24 * 3600.0
SHOWN_VERSIONS = ("polyward", "flwr", "torch", "monai", "numpy")


def run_comparison(
    study: Study,
    files: Sequence[Path],
    arms: Sequence[Arm],
    folder: Path,
    *,
    engine: str,
    workers: int,
    talk: Console,
    out: Console,
    start: Path | None = None,
    stays: Mapping[str, Stay] | None = None,
) -> Path:
    """Runs the arms, prints the table to `out`, writes CSV, JSON and the page, and returns the page's path.

    The `federated` arm runs on `engine`; the others, which are there to compare with, always in this process. All begin
    with the encoder in the file `start`, if it is given, which the study then names. Where the study's sites train
    alone beside the federation, that is the arm `local`. A site with a topology of its own excludes `fedavg`, for its
    branches are not like those of the others. `stays` says who comes late or leaves the federation; alone, all sites
    then train in every round, which is more than those have beside it.
    """
    _same_study(study, folder)
    sites = [read_site(path) for path in files]
    alike = all(site.file.topology is None for site in sites)
    owned = shared_tasks(study, sites) if alike else frozenset[str]()
    needless = {"local"} if study.personal.alone and not stays else set()
    arms = [arm for arm in arms if arm not in needless and (arm != "fedavg" or owned)]
    started, began = datetime.now(UTC), time.monotonic()
    ledgers: dict[Arm, list[Path]] = {}
    with Screen(talk, arms, [site.name for site in sites], study.rounds) as screen:
        for arm in arms:
            on = engine if arm == "federated" else "inprocess"
            ledgers[arm] = _run_on(on, study, files, arm, folder / arm, workers, screen.watch, start, stays)
    results = collect(study, sites, ledgers, owned, started, time.monotonic() - began)
    write_results(folder, results)
    print_table(out, table(results))
    return write_report(folder, results)


def collect(
    study: Study,
    sites: Sequence[Site],
    ledgers: Mapping[Arm, Sequence[Path]],
    owned: Set[str],
    started: datetime,
    seconds: float,
) -> Results:
    """What the arms' ledgers hold. Full averaging is shown for the tasks in `owned` alone: elsewhere it is no mean.

    What sites trained alone beside the federation becomes the arm `local`.
    """
    rows: list[Row] = []
    kept: list[Choice] = []
    turns: list[Turn] = []
    brought: dict[str, SiteData] = {}
    roots = {site.name: site.root for site in sites}
    for arm, paths in ledgers.items():
        digest = variation(study, arm).digest()
        for path in paths:
            ledger = Ledger(path)
            alone = path.parent.name if arm == "local" else ""
            turns += _turns(ledger, digest, arm, alone)
            rows += [
                Row(arm, number, site, m.task, m.split, m.stage, m.name, m.value, m.count, m.low, m.high)
                for number, site, m in ledger.metrics(digest)
                if arm != "fedavg" or m.task in owned
            ]
            kept += [Choice(site, task, cast(Kept, model)) for (site, task), model in ledger.kept(digest).items()]
            for name, member in ledger.members(digest).items():
                note = device_note(roots[name])
                brought[name] = SiteData(name=name, images=member.samples, labels=member.counts, note=note)
            ledger.close()
    return Results(
        study=study,
        started=started.isoformat(timespec="seconds"),
        seconds=seconds,
        machine=machine(),
        generated=any(is_generated(site.root) for site in sites),
        software={name: version(name) for name in SHOWN_VERSIONS},
        sites=tuple(brought[name] for name in sorted(brought)),
        turns=tuple(turns),
        rows=tuple(rows if "local" in ledgers else (retold(row, "alone", "local") or row for row in rows)),
        kept=tuple(kept),
    )


def machine() -> str:
    """The machine in words, without its name."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB memory"


def _run_on(
    engine: str,
    study: Study,
    files: Sequence[Path],
    arm: Arm,
    folder: Path,
    workers: int,
    watch: Watch,
    start: Path | None,
    stays: Mapping[str, Stay] | None,
) -> list[Path]:
    match engine:
        case "ray":
            from polyward_deploy.ray_engine import run_on_ray

            return [run_on_ray(study, files, arm, folder, watch, start)]
        case "processes":
            return [_run_processes(study, files, arm, folder, watch, start)]
        case _:
            here = stays if arm == "federated" else None
            return run_arm(study, files, arm, folder, workers=workers, watch=watch, start=start, stays=here)


def _run_processes(
    study: Study, files: Sequence[Path], arm: Arm, folder: Path, watch: Watch, start: Path | None
) -> Path:
    """A real hub and real nodes; this process only reads the hub's ledger."""
    with federation(study, files, folder) as processes:
        if start is not None:
            Registry(processes.hub.registry).import_file(start)
        ledger = processes.run()
        seen = 0
        while ledger.study_state(study.digest())[0] in RUNS:
            for number, event in ledger.events_after(seen, study.digest()):
                seen = number
                watch.event(arm, event)
            time.sleep(0.2)
        wait_for(ledger, study.digest(), seconds=LONGEST_SECONDS)
        for _, event in ledger.events_after(seen, study.digest()):
            watch.event(arm, event)
        ledger.close()
        return processes.hub.folder / "ledger.db"  # where a hub that was just made keeps it


def _turns(ledger: Ledger, digest: str, arm: Arm, site: str) -> list[Turn]:
    given = ledger.contributions(digest)
    return [
        Turn(
            arm=arm,
            round=committed.number,
            site=site,
            digest=committed.encoder,
            seconds=committed.seconds,
            bytes_down=sum(each.bytes_down for each in given.get(committed.number, [])),
            bytes_up=sum(each.bytes_up for each in given.get(committed.number, [])),
        )
        for committed in ledger.rounds(digest)
    ]


def _same_study(study: Study, folder: Path) -> None:
    """A folder belongs to one study: results of two would be mixed."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "study.digest"
    if mark.exists() and mark.read_text(encoding="utf-8").strip() != study.digest():
        raise Problem(
            str(folder),
            "holds the results of another study, or of this one before it was edited",
            remedy="give another --out, or --fresh to throw them away",
        )
    mark.write_text(study.digest() + "\n", encoding="utf-8")
