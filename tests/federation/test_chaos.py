"""A running federation whatever befalls the hub: the same bytes in the end, and every contribution once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from polyward_deploy.processes import Processes, federation, wait_for
from polyward_server import audit
from polyward_server.ledger import Ledger
from polyward_shared.study import Study
from tests.federation.small import simulated_encoders, small_study
from tests.support.chaos import (
    CONTROL,
    FAKETIME,
    RUNNER,
    SUPERLINK,
    SUPERVISOR,
    Blow,
    clock,
    filled,
    rerouted,
    set_clock,
    small_disk,
    strike,
)

pytestmark = [pytest.mark.slow, pytest.mark.alone]
SEED = int(os.environ.get("POLYWARD_CHAOS_SEED", "6"))
BLOWS = int(os.environ.get("POLYWARD_CHAOS_BLOWS", "20"))
PARTS = (RUNNER, RUNNER, SUPERLINK, SUPERLINK, CONTROL, SUPERVISOR)  # by weight
BACK_SECONDS = 10.0  # from a restart until sites are asked again
GATE, TRAINER = "polyward_client.gate", "polyward_client.trainer"


@contextmanager
def nothing_left() -> Iterator[None]:
    """No process of ours outlives what is done here."""
    before = psutil.Process().children(recursive=True)
    yield
    _, alive = psutil.wait_procs([p for p in psutil.Process().children(recursive=True) if p not in before], timeout=5)
    assert not alive, "a process outlived its supervisor"


def assert_untouched(ledger: Ledger, study: Study, sites: list[str], expected: list[str]) -> None:
    digest = study.digest()
    assert [committed.encoder for committed in ledger.rounds(digest)] == expected
    given = {number: [each.site for each in all_] for number, all_ in ledger.contributions(digest).items()}
    assert given == dict.fromkeys(range(1, study.rounds + 1), sites)
    with ledger.engine.connect() as db:
        audit.verify(db)


def suspend(process: psutil.Process, seconds: float) -> None:
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


def until_round(ledger: Ledger, study: str, processes: Processes, number: int) -> None:
    """Round `number` has been asked, and is not committed."""
    wait_for(ledger, study, seconds=120, rounds=number - 1)
    deadline = time.monotonic() + 60
    while not any(e.event.what == "asked" and e.event.round == number for e in ledger.noted(study=study, last=50)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_at_twenty_random_moments_and_cut_off(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311
    study, files = small_study(tmp_path / "data", rounds=BLOWS // 2 + 5, hospitals=2, branch_epochs=2, epochs=4)
    expected = simulated_encoders(study, files, tmp_path / "simulated")
    print(f"seed {SEED}")
    with nothing_left(), federation(study, files, tmp_path / "real") as processes, rerouted(processes) as ways:
        ledger, digest = processes.run(), study.digest()
        wait_for(ledger, digest, seconds=120, rounds=1)
        blows: list[Blow] = []
        for number in range(BLOWS):
            if number % 2:  # so that they fall into all rounds
                wait_for(ledger, digest, seconds=60, rounds=1 + number // 2)
            time.sleep(chance.uniform(0.0, 1.5))
            assert ledger.study_state(digest)[0] != "finished", "the study was over before the last blow"
            blows.append(strike(processes, ledger, digest, chance.choice(PARTS)))
            print(blows[-1], flush=True)
        last = ledger.last_round(digest)
        assert last is not None
        until_round(ledger, digest, processes, last.number + 2)
        for way in ways:
            way.cut()
        time.sleep(8)
        for way in ways:
            way.heal()
        suspend(processes.part(min(processes.sites), GATE), 6)
        suspend(processes.part(min(processes.sites), TRAINER), 4)
        wait_for(ledger, digest, seconds=200)
        assert_untouched(ledger, study, sorted(processes.sites), expected)
        for name in list(processes.running):
            processes.stop(name)
    took = sorted(blow.asked_again for blow in blows if blow.asked_again is not None)
    print("seconds from a restart until asked again:", " ".join(f"{each:.1f}" for each in took))
    assert took[-1] <= BACK_SECONDS


def test_a_full_disk_a_clock_that_jumps_and_a_hung_hub(tmp_path: Path) -> None:
    """The hub's folder lies on a disk of its own, and its processes take the time from a file."""
    assert FAKETIME.exists(), "libfaketime is missing; .ci/run installs it"
    study, files = small_study(tmp_path / "data", rounds=7, hospitals=2, branch_epochs=2, epochs=4)
    expected = simulated_encoders(study, files, tmp_path / "simulated")
    folder, offset = tmp_path / "real", tmp_path / "offset"
    with (
        small_disk(folder / "hub", megabytes=32),
        nothing_left(),
        federation(study, files, folder) as processes,
    ):
        processes.stop("hub")
        with clock(offset):
            processes.start("hub")
        ledger, digest = processes.run(), study.digest()
        until_round(ledger, digest, processes, 2)
        with filled(processes.hub.folder):
            time.sleep(6)
            assert ledger.study_state(digest)[0] not in {"failed", "finished"}
            assert len(ledger.rounds(digest)) < study.rounds
        began = time.monotonic()
        wait_for(ledger, digest, seconds=60, rounds=3)
        print(f"full disk: two rounds {time.monotonic() - began:.1f} s after there was room")
        for number, jump in ((4, "+3h"), (5, "-2h")):
            until_round(ledger, digest, processes, number)
            set_clock(offset, jump)
            time.sleep(8)  # signatures of the sites are refused meanwhile, for their clocks say otherwise
            assert ledger.study_state(digest)[0] not in {"failed", "stopped"}
            set_clock(offset, "+0")
            began = time.monotonic()
            wait_for(ledger, digest, seconds=60, rounds=number)
            print(f"clock {jump} and back: the round ended {time.monotonic() - began:.1f} s later")
        until_round(ledger, digest, processes, 6)
        hung = processes.part("hub", SUPERLINK)
        hung.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        wait_for(ledger, digest, seconds=120, rounds=6)
        print(f"hung: the round ended {time.monotonic() - began:.1f} s later")
        assert not hung.is_running(), "the watchdog ended it"
        wait_for(ledger, digest, seconds=100)
        assert_untouched(ledger, study, sorted(processes.sites), expected)
        for name in list(processes.running):
            processes.stop(name)
        ledger.close()
