"""How soon things are there: a node online, and after `kill -9` at the hub the same round asked again."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil

from polyward_deploy.processes import await_port
from polyward_server.contacts import read_contacts
from polyward_server.enrolment import invite
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_server.runner import session_of
from polyward_shared.invitation import written
from polyward_shared.pki import write_secret
from polyward_shared.supervise import module
from tests.bench.ours import Nulls, admit, asked, hub_alone, new_site, null_federation, online
from tests.bench.rows import Budget, Row, measured
from tests.bench.running import end, start, wait_until
from tests.bench.scale import Scale, Step

SITES = 2
VALUES = 2500
WORK_SECONDS = 2.0  # of pretended training, so that a blow falls in mid-round
LIMIT = 90.0
IDLE = Budget("value", 120)
SOON = Budget("value", 10)
PARTS = {"runner": "polyward_server.runner", "SuperLink": "polyward_server.flower.superlink"}


def run(folder: Path, scale: Scale, step: Step) -> list[Row]:
    """Every figure is taken from outside: the hub's list of nodes, the kernel, the ledger's events."""
    rows = [_enrolment(folder / "enrolment", scale, step), *_node(folder / "node", scale, step)]
    blows = scale.of(3, quick=1)
    with null_federation(
        folder / "kill", sites=SITES, values=VALUES, rounds=2 * blows + 2, work_seconds=WORK_SECONDS
    ) as nulls:
        digest = nulls.ledger.queue(nulls.study)
        number = 1
        for name in PARTS:
            seconds = []
            for blow in range(blows):
                step(f"kill -9 of the {name} in mid-round, {blow + 1} of {blows}")
                seconds.append(_asked_again_after(nulls, digest, number, name))
                number += 1
            what = f"kill -9 of the {name} to the same round asked again"
            rows.append(measured("resilience", what, "s", seconds, budget=SOON))
    return rows


def _enrolment(folder: Path, scale: Scale, step: Step) -> Row:
    """From the one command at a site, its invitation in a file, to online on Flower's side and the control plane."""
    seconds = []
    with hub_alone(folder) as hub:
        ledger = Ledger(hub.hub.ledger)
        roster = Roster(ledger)
        with session_of(hub.hub, patience=0.1) as session:
            here = online(session)
            await_port(hub.hub.file.port)
            for trial in range(scale.of(3, quick=1)):
                step(f"polyward-node enrol, {trial + 1}")
                name, file = f"clinic{trial}", folder / f"clinic{trial}.invitation"
                write_secret(file, written(invite(hub.hub, roster, name, hours=1, approved=True)).encode())
                command = module("polyward_client", "enrol", str(file), "--folder", str(folder / name), "--run")
                node = start(command, folder / f"{name}.log")
                try:
                    there = partial(_is_connected, ledger, name)
                    seconds.append(wait_until(partial(_both, here, there), LIMIT, "the node online"))
                finally:
                    end([node])
                wait_until(lambda: not any(here().values()), LIMIT, "the node offline")
        ledger.close()
    return measured("resilience", "invitation to online, one command at the site", "s", seconds, budget=SOON)


def _both(here: Callable[[], dict[int, bool]], connected: Callable[[], bool]) -> bool:
    return connected() and any(here().values())


def _is_connected(ledger: Ledger, name: str) -> bool:
    contact = read_contacts(ledger).get(name)
    return contact is not None and contact.connected


def _node(folder: Path, scale: Scale, step: Step) -> list[Row]:
    """A real node, trainer included: seconds to online, memory of its gate when it has nothing to do."""
    starts = []
    with hub_alone(folder) as hub:
        site = new_site(folder / "sites", "clinic", hub.hub)
        ledger = Ledger(hub.hub.ledger)
        admit(site, ledger)
        ledger.close()
        with session_of(hub.hub, patience=0.1) as session:
            here = online(session)
            wait_until(lambda: len(here()) == 1, LIMIT, "the hub", log=folder / "hub.log")
            trials = scale.of(3, quick=1)
            for trial in range(trials):
                step(f"polyward-node run, {trial + 1} of {trials}")
                node = start(module("polyward_client", "run", str(site.path)), folder / "node.log")
                try:
                    starts.append(wait_until(lambda: any(here().values()), LIMIT, "the node online"))
                    if trial + 1 == trials:
                        idle = scale.of(60, quick=5)
                        step(f"gate idle for {idle} s")
                        time.sleep(idle)
                        memory = _gate(node.pid).memory_info().rss / 1e6
                finally:
                    end([node])
                wait_until(lambda: not any(here().values()), LIMIT, "the node offline")
    return [
        measured("resilience", "polyward-node run to online at the hub", "s", starts, budget=SOON),
        Row(bench="resilience", what="gate: resident memory when idle", unit="MB", value=memory, budget=IDLE),
    ]


def _gate(node: int) -> psutil.Process:
    for child in psutil.Process(node).children(recursive=True):
        if "polyward_client.gate" in child.cmdline():
            return child
    raise psutil.NoSuchProcess(node)


def _asked_again_after(nulls: Nulls, study: str, number: int, part: str) -> float:
    """Kills the part once both sites work on round `number`; seconds until the first of them is asked anew."""
    wait_until(lambda: len(asked(nulls.ledger, study, number)) >= SITES, LIMIT, f"round {number} asked")
    before = len(asked(nulls.ledger, study, number))
    at = datetime.now(UTC)
    nulls.hub.part("hub", PARTS[part]).kill()
    wait_until(lambda: len(asked(nulls.ledger, study, number)) > before, LIMIT, f"round {number} asked again")
    seconds = (asked(nulls.ledger, study, number)[before] - at).total_seconds()
    wait_until(lambda: _committed(nulls, study) >= number, LIMIT, f"round {number} committed")
    return seconds


def _committed(nulls: Nulls, study: str) -> int:
    last = nulls.ledger.last_round(study)
    return last.number if last else -1
