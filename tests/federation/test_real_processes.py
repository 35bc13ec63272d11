"""A real hub and real nodes over TLS: the same bytes as in simulation, and nobody's kill loses or doubles anything."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from polyward_client.site import Site
from polyward_deploy.processes import Processes, federation, wait_for
from polyward_server.ledger import Ledger
from polyward_shared.chain import read_chain
from polyward_shared.states import read_stamp
from polyward_shared.study import Study
from tests.federation.small import simulated_encoders, small_study

SUPERLINK = "polyward_server.flower.superlink"
RUNNER = "polyward_server.runner"
GATE = "polyward_client.gate"
TRAINER = "polyward_client.trainer"


def kill(processes: Processes, name: str, part: str) -> None:
    processes.part(name, part).kill()


def superlink_away(seconds: float) -> Callable[[Processes, str, str], None]:
    """Kills the SuperLink and keeps its supervisor from starting it again for a while."""

    def away(processes: Processes, name: str, part: str) -> None:
        supervisor = psutil.Process(processes.running[name].pid)
        supervisor.send_signal(signal.SIGSTOP)
        processes.part(name, part).kill()
        time.sleep(seconds)
        supervisor.send_signal(signal.SIGCONT)

    return away


Blow = tuple[str, str, Callable[[Processes, str, str], None]]


def strike_in_mid_round(processes: Processes, ledger: Ledger, study: Study, number: int, blow: Blow) -> float:
    """Strikes while round `number` is asked but not committed; the seconds until it was committed."""
    digest = study.digest()
    deadline = time.monotonic() + 120
    while not any(e.what == "asked" and e.round == number for _, e in ledger.events_after(0, digest)):
        assert time.monotonic() < deadline, f"round {number} did not begin"
        time.sleep(0.02)
    name, part, strike = blow
    strike(processes, name, part)
    last = ledger.last_round(digest)
    assert last is not None
    assert last.number < number, "the blow came too late to be in mid-round"
    began = time.monotonic()
    wait_for(ledger, digest, seconds=150, rounds=number)
    return time.monotonic() - began


def assert_each_contribution_once(ledger: Ledger, study: Study, sites: list[str]) -> None:
    given = ledger.contributions(study.digest())
    assert {number: [each.site for each in contributions] for number, contributions in given.items()} == {
        number: sorted(sites) for number in range(1, study.rounds + 1)
    }


def assert_heads_intact(site: Site, study: Study) -> None:
    """The vault holds the branches of the last round, and the spool's update belongs to the same round."""
    entries = [read_stamp(path) for path in (site.vault / study.digest()).glob("*.safetensors")]
    assert str(study.rounds) in {stamp["round"] for stamp in entries}


def assert_no_branch_left(processes: Processes, study: Study) -> None:
    """Neither in what the hub stored, nor in what any site's ledger says it sent."""
    names = [path.name.encode() for path in processes.hub.registry.glob("*.safetensors")]
    assert len(names) == study.rounds + 1
    for path in processes.hub.folder.rglob("*"):
        if path.is_file():
            assert b"branches." not in path.read_bytes(), f"{path} names a branch"
    for site in processes.sites.values():
        for entry in read_chain(site.sent):
            if entry["what"] == "report" and entry["kind"] == "train.round":
                schema_bytes = next(iter(processes.hub.registry.glob("*.safetensors"))).stat().st_size
                assert entry["bytes"] < schema_bytes  # the encoder's values and nothing besides


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.alone
def test_same_bytes_as_simulation_whoever_is_killed(tmp_path: Path) -> None:
    """One story: a study of seven rounds in which every kind of process is killed once in mid-round."""
    study, sites = small_study(tmp_path / "data", rounds=7, branch_epochs=12, epochs=12)
    others = psutil.Process().children(recursive=True)  # of earlier tests, such as multiprocessing's own helper
    expected = simulated_encoders(study, sites, tmp_path / "simulated")
    with federation(study, sites, tmp_path / "real") as processes:
        names = sorted(processes.sites)
        ledger = processes.run()
        blows: list[Blow] = [
            (names[0], TRAINER, kill),
            (names[1], GATE, kill),
            ("hub", RUNNER, kill),
            ("hub", SUPERLINK, kill),
        ]
        took = {}
        for number, blow in enumerate(blows, start=2):
            took[blow[1]] = strike_in_mid_round(processes, ledger, study, number, blow)
        kill_everything_of_the_hub(processes)
        wait_for(ledger, study.digest(), seconds=200)
        assert [committed.encoder for committed in ledger.rounds(study.digest())] == expected, took
        assert_each_contribution_once(ledger, study, names)
        for site in processes.sites.values():
            assert_heads_intact(site, study)
        assert_no_branch_left(processes, study)
        children = [each for each in psutil.Process().children(recursive=True) if each not in others]
        for name in list(processes.running):
            processes.stop(name)
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive, "a process outlived its supervisor"


def kill_everything_of_the_hub(processes: Processes) -> None:
    """`kill -9` of the supervisor: its children must not survive it, and a new one must find everything."""
    supervisor = psutil.Process(processes.running["hub"].pid)
    children = supervisor.children(recursive=True)
    supervisor.kill()
    supervisor.wait()
    processes.running.pop("hub").wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive, "a child outlived a supervisor that was killed"
    processes.start("hub")


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.alone
def test_a_superlink_that_is_away_for_90_seconds(tmp_path: Path) -> None:
    """Longer than Flower's own patience (60 s): the round is asked again on a new run, nothing is trained twice."""
    study, sites = small_study(tmp_path / "data", rounds=3, hospitals=2, branch_epochs=10, epochs=10)
    expected = simulated_encoders(study, sites, tmp_path / "simulated")
    with federation(study, sites, tmp_path / "real") as processes:
        ledger = processes.run()
        blow: Blow = ("hub", SUPERLINK, superlink_away(90))
        strike_in_mid_round(processes, ledger, study, 2, blow)
        wait_for(ledger, study.digest(), seconds=120)
        assert [committed.encoder for committed in ledger.rounds(study.digest())] == expected
        assert_each_contribution_once(ledger, study, sorted(processes.sites))
