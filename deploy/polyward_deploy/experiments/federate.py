"""A run of an experiment: its learners behind real gates, with the real round loop, ledger and registry, in memory.

State folders lie in the machine's memory where it has such a file system, since every state and every line of a
ledger is forced to the disk and these runs are thrown away; what they found stays.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from polyward_client.approvals import Approval, write_approval
from polyward_client.gate.gate import Gate
from polyward_client.site import Site, read_site
from polyward_deploy.experiments.learner import ArrayTrainer, Learner
from polyward_deploy.local_grid import LocalGrid, gates_by_node
from polyward_server.exchange import Presence
from polyward_server.federation import Federation
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.registry import Registry
from polyward_server.rounds import run_study
from polyward_shared.encoders import Custom
from polyward_shared.messages import Metric
from polyward_shared.schema import Named, Schema
from polyward_shared.study import Study

MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own is made in it


@dataclass(frozen=True, slots=True)
class Found:
    """What a run left: the shared arrays after each round (the first state included), and the sites' figures.

    `platform_seconds` is the time of all rounds without the sites' own work: gates, grid, hub, ledger and registry.
    """

    states: tuple[Named, ...]
    metrics: tuple[tuple[int, str, Metric], ...]
    platform_seconds: float
    bytes_up: int


def federate(
    study: Study, learners: Mapping[str, Learner], folder: Path, tell: Callable[[int], None] = lambda _: None
) -> Found:
    """Runs the whole study in `folder`; `tell` hears the number of each round once it is committed."""

    def heard(event: Event) -> None:
        if event.what == "committed" and event.round:
            tell(event.round)

    gates = {name: _gate(folder / "sites", name, study, learner) for name, learner in learners.items()}
    nodes, by_node = gates_by_node(gates)
    ledger, registry = Ledger(folder / "ledger.db", watch=heard), Registry(folder / "registry")
    grid = LocalGrid(by_node, workers=1)
    here = {name: Presence(online=True, since=0.0) for name in nodes}
    try:
        ledger.queue(study)
        began = time.monotonic()
        run_study(study, Federation(grid, lambda: here, lambda: nodes, ledger, registry, tries=1))
        seconds = time.monotonic() - began
        digest = study.digest()
        given = [each for contributions in ledger.contributions(digest).values() for each in contributions]
        states = [registry.load(committed.state) for committed in ledger.rounds(digest)]
        return Found(
            states=tuple(schema.views(flat) for schema, flat in states),
            metrics=tuple(ledger.metrics(digest)),
            platform_seconds=seconds - sum(each.seconds for each in given),
            bytes_up=sum(each.bytes_up for each in given),
        )
    finally:
        grid.close()
        ledger.close()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards, in memory if the machine has a place for it."""
    fast = MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="polyward-", dir=fast) as folder:
        yield Path(folder)


def _gate(folder: Path, name: str, study: Study, learner: Learner) -> Gate:
    """A site with a file and a state of its own, which has approved the study."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    tasks = list(learner.counts)
    policy = {"minimum_sites": 1, "encoders": [study.encoder.path] if isinstance(study.encoder, Custom) else []}
    text = {"name": name, "tasks": tasks, "data": {"root": "."}, "policy": policy}
    path.write_text(tomli_w.dumps(text), encoding="utf-8")
    site: Site = read_site(path)
    write_approval(site.approved, Approval(study, tuple(tasks), Schema.of(learner.first())))
    return Gate(site, ArrayTrainer(site, learner))
