"""A real hub and real gates over TLS with node authentication, with trainers that train nothing behind the gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa
import tomli_w

from polyward_client.approvals import Approval, write_approval
from polyward_client.site import Site, read_site
from polyward_deploy.processes import Processes
from polyward_server.flower.session import RunLost, Session
from polyward_server.hub import Hub, free_port, init
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_server.runner import session_of
from polyward_server.tables import events, rounds
from polyward_shared import pki
from polyward_shared.codec import Codec
from polyward_shared.problems import Problem
from polyward_shared.schema import ArraySpec, Schema
from polyward_shared.study import Study
from polyward_shared.supervise import module
from tests.bench.running import Process, end, peak_memory, running, start, wait_until

TASK = "any"
START_SECONDS = 60.0


@dataclass(slots=True)
class Nulls:
    """A federation whose trainers are null; `hub` starts and finds the hub's processes."""

    study: Study
    hub: Processes
    ledger: Ledger
    gates: list[Process]

    def seconds_per_round(self, *, limit: float, warm_up: int = 1) -> list[float]:
        """Queues the study, waits at most `limit` seconds for each round, and returns the times between commits."""
        digest = self.ledger.queue(self.study)
        for number in range(self.study.rounds + 1):
            what = f"round {number} of the study"
            wait_until(lambda: self._committed(digest) > number, limit, what, log=self.hub.folder / "hub.log")  # noqa: B023
        return between(commits(self.ledger, digest))[warm_up:]

    def _committed(self, digest: str) -> int:
        state, reason = self.ledger.study_state(digest)
        if state in {"failed", "stopped"}:
            raise Problem(f"study {digest[:12]}", f"{state}: {reason}")
        return len(self.ledger.rounds(digest))

    def peaks(self) -> dict[str, float]:
        """Peak memory in MB of the hub's two processes and of the first gate."""
        parts = {"runner": "polyward_server.runner", "SuperLink": "polyward_server.flower.superlink"}
        found = {name: peak_memory(self.hub.part("hub", part).pid) for name, part in parts.items()}
        return {**found, "node": peak_memory(self.gates[0].pid)}


@contextmanager
def null_federation(
    folder: Path, *, sites: int, values: int, rounds: int, codec: Codec = "float32", work_seconds: float = 0.0
) -> Iterator[Nulls]:
    """Hub, gates and null trainers that run, all in `folder`; ended when the block is left."""
    study = null_study(sites=sites, rounds=rounds, codec=codec)
    hub = started_hub(folder)
    ledger = Ledger(hub.hub.ledger)
    names = [f"site{number}" for number in range(sites)]
    try:
        with running() as processes:
            processes.append(hub.running["hub"])
            gates = []
            for name in names:
                site = new_site(folder / "sites", name, hub.hub)
                admit(site, ledger)
                approve(site, study, values)
                log = folder / f"{name}.log"
                trainer = [*module("tests.bench.null_trainer", str(site.path)), str(site.state), str(work_seconds)]
                gate = [*module("polyward_client.gate", str(site.path)), str(site.state)]
                processes.append(start(trainer, log, folder=site.state))
                gates.append(start(gate, log, folder=site.state, OMP_NUM_THREADS="1"))
                processes.append(gates[-1])
            with session_of(hub.hub, patience=0.1) as session:
                here = online(session)
                wait_until(lambda: sum(here().values()) == sites, START_SECONDS, "all sites online", log=log)
            yield Nulls(study, hub, ledger, gates)
    finally:
        ledger.close()


@contextmanager
def hub_alone(folder: Path) -> Iterator[Processes]:
    """A hub without sites."""
    hub = started_hub(folder)
    try:
        yield hub
    finally:
        end(list(hub.running.values()))


def started_hub(folder: Path) -> Processes:
    folder.mkdir(parents=True, exist_ok=True)
    hub = Processes(
        folder,
        init(
            folder / "hub",
            name="bench",
            host="127.0.0.1",
            port=free_port(),
            control_port=free_port(),
            dashboard_port=free_port(),
        ),
        {},
        folder,
    )
    hub.start("hub")
    return hub


def null_study(*, sites: int, rounds: int, codec: Codec = "float32") -> Study:
    return Study.model_validate(
        {
            "id": "null",
            "rounds": rounds,
            "image": {"size": (16, 16)},
            "tasks": {TASK: {"kind": "binary"}},
            "participation": {"quorum": sites},
            "wire": {"codec": codec, "update_norm": 1e6},
        }
    )


def new_site(folder: Path, name: str, hub: Hub) -> Site:
    """A site's file and key, for this hub."""
    folder.mkdir(parents=True, exist_ok=True)
    text = {
        "name": name,
        "tasks": [TASK],
        "data": {"root": str(folder)},
        "hub": {"address": f"127.0.0.1:{hub.file.port}", "ca": str(hub.ca)},
    }
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(text), encoding="utf-8")
    site = read_site(path)
    pki.write_secret(site.key, pki.key_to_pem(pki.new_key()))
    return site


def admit(site: Site, ledger: Ledger) -> None:
    """Registers the site's key, as enrolment does in the end."""
    Roster(ledger).register(site.name, pki.public_pem(pki.read_key(site.key)).decode())


def approve(site: Site, study: Study, values: int) -> None:
    """Approves the study for one encoder array of so many values."""
    write_approval(site.approved, Approval(study, (TASK,), Schema((ArraySpec("encoder.w", (values,)),))))


def online(session: Session) -> Callable[[], dict[int, bool]]:
    """A function that tells for each node whether it is online; nobody is while the SuperLink is away."""

    def look() -> dict[int, bool]:
        try:
            return {number: state.online for number, state in session.nodes().items()}
        except RunLost:
            return {}

    return look


def commits(ledger: Ledger, study: str) -> list[datetime]:
    """When each round was committed, from the ledger."""
    query = sa.select(rounds.c.committed).where(rounds.c.study == study).order_by(rounds.c.round)
    return [datetime.fromisoformat(text) for text in _column(ledger, query)]


def asked(ledger: Ledger, study: str, number: int) -> list[datetime]:
    """When sites were asked for this round, from the ledger's events."""
    query = (
        sa.select(events.c.at)
        .where((events.c.study == study) & (events.c.round == number) & (events.c.what == "asked"))
        .order_by(events.c.id)
    )
    return [datetime.fromisoformat(text) for text in _column(ledger, query)]


def between(moments: Sequence[datetime]) -> list[float]:
    """Seconds from each moment to the next."""
    return [(after - before).total_seconds() for before, after in pairwise(moments)]


def _column(ledger: Ledger, query: sa.Select[tuple[str]]) -> list[str]:
    with ledger._engine.connect() as db:
        return [str(value) for value in db.execute(query).scalars()]
