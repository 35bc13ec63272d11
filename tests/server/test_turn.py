"""A study's turn: it is paused, left, gives way, waits for room on the disk, and fails for a defect only in the end."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from polyward_client.port.interface import Done, Watcher, Work
from polyward_server import coordination, turn
from polyward_server.exchange import Presence
from polyward_server.lease import Lease
from polyward_server.records import Event, State
from polyward_server.turn import Turn, run_turn
from polyward_shared.problems import Code
from tests.support.toy_federation import Toy, ToyFederation
from tests.support.toy_trainer import toy_study

TOYS = {"a": Toy(1.0, {"mask": 30}), "b": Toy(-2.0, {"mask": 10})}
RULE = {"quorum": 2, "deadline_seconds": 20.0}


@contextmanager
def taken(
    folder: Path, heard: Callable[[Event], None] = lambda _: None, others: Callable[[], bool] = lambda: False
) -> Iterator[tuple[ToyFederation, Callable[[], None]]]:
    """A toy federation, and its study's turn as the runner gives it."""
    with ToyFederation(folder, toy_study(participation=RULE), TOYS, heard=heard) as toy:
        coordination.enqueue(toy.ledger, toy.study, "ada")
        lease = Lease(toy.ledger.engine, toy.digest, "us")
        assert lease.take()
        at = Turn(toy.digest, toy.ledger, lease, threading.Event(), others)
        federation = replace(toy.federation(), stopped=at.stopped, leaves=at.leaves, fence=lease.fence)
        yield toy, lambda: run_turn(federation, toy.digest)


def test_a_paused_study_rests_after_its_round_and_goes_on(tmp_path: Path) -> None:
    def pause(event: Event) -> None:
        if (event.what, event.round, event.site) == ("asked", 2, "a"):
            coordination.pause(toy.ledger, toy.digest, "ada")

    with taken(tmp_path, pause) as (toy, run):
        run()
        assert toy.ledger.study_state(toy.digest) == (State.PAUSED, "")
        assert toy.credited() == {1: ["a", "b"], 2: ["a", "b"]}
        asked = len(toy.seen("asked"))
        run()
        assert len(toy.seen("asked")) == asked, "while it is paused nobody is asked"
        coordination.resume(toy.ledger, toy.digest, "bob")
        run()
        assert toy.ledger.study_state(toy.digest)[0] == State.FINISHED
        course = [event.what for event in toy.events if not event.site and event.what in set(State)]
        assert course == ["queued", "running", "paused", "resuming", "running", "finished"]


def test_at_once_leaves_a_round_that_a_site_still_works_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    working = threading.Event()

    def pause(event: Event) -> None:
        if (event.what, event.round, event.site) == ("reported", 2, "a") and not working.is_set():
            coordination.pause(toy.ledger, toy.digest, "ada", now=True)

    with taken(tmp_path, pause) as (toy, run):
        honest = toy.trainers["b"].train

        def slow(work: Work, watch: Watcher) -> Done:
            if work.round == 2:
                working.wait(20)
            return honest(work, watch)

        monkeypatch.setattr(toy.trainers["b"], "train", slow)
        began = time.monotonic()
        run()
        assert time.monotonic() - began < 10
        working.set()
        assert toy.ledger.study_state(toy.digest) == (State.PAUSED, "at once")
        assert toy.credited() == {1: ["a", "b"]}
        assert not list(toy.registry.folder.glob(".round-*"))
        coordination.resume(toy.ledger, toy.digest, "ada")
        run()
        assert toy.credited() == {number: ["a", "b"] for number in (1, 2, 3)}


def test_a_study_that_waits_says_for_whom_and_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "GIVE_WAY_SECONDS", 0.3)
    queue: list[str] = []

    def leave(event: Event) -> None:
        if (event.what, event.round) == ("committed", 1):
            toy.here["b"] = Presence(online=False, since=0.0)
        if event.what == "waiting":
            assert event.detail == "away: b; quorum 2"
            threading.Timer(0.5, queue.append, ("another",)).start()

    with taken(tmp_path, leave, lambda: bool(queue)) as (toy, run):
        run()
        assert queue, "alone in the line it keeps its turn"
        assert toy.ledger.study_state(toy.digest) == (State.WAITING, "away: b; quorum 2")
        toy.here["b"] = Presence(online=True, since=0.0)
        run()
        assert toy.ledger.study_state(toy.digest) == (State.FINISHED, "")


def test_sites_that_have_not_approved_are_counted(tmp_path: Path) -> None:
    def approve(event: Event) -> None:
        if event.what == "waiting":
            toy.trainers["b"].fail = None

    with taken(tmp_path, approve) as (toy, run):
        toy.trainers["b"].fail = Code.STUDY_NOT_APPROVED
        run()
        assert toy.seen("waiting")[0] == (0, "", "1 of 2 sites have approved, quorum 2")
        assert toy.ledger.study_state(toy.digest)[0] == State.FINISHED


def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with taken(tmp_path) as (toy, run):
        add = toy.registry.add

        def full(*_: object) -> str:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(toy.registry, "add", full)
        with pytest.raises(OSError, match="No space left"):
            run()
        assert toy.ledger.study_state(toy.digest)[0] == State.RUNNING
        monkeypatch.setattr(toy.registry, "add", add)
        run()
        assert toy.ledger.study_state(toy.digest)[0] == State.FINISHED


def test_a_defect_of_ours_fails_the_study_in_the_end_and_says_nothing_of_a_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taken(tmp_path) as (toy, run):

        def defect(*_: object) -> str:
            raise LookupError("patient 17")

        monkeypatch.setattr(toy.registry, "add", defect)
        for met in range(1, turn.DEFECTS + 1):
            assert toy.ledger.study_state(toy.digest)[0] != State.FAILED
            run()
            assert toy.seen("defect") == [(0, "", "LookupError")] * met
        state, reason = toy.ledger.study_state(toy.digest)
        assert (state, reason) == (State.FAILED, "LookupError in polyward itself, 3 times; the hub's log tells where")
        assert not any("patient" in event.detail for event in toy.events)
        monkeypatch.undo()
        coordination.enqueue(toy.ledger, toy.study, "ada")
        run()
        assert toy.ledger.study_state(toy.digest)[0] == State.FINISHED


def test_of_two_runners_one_commits(tmp_path: Path) -> None:
    """Another hub takes the lease in mid-round; what this one folded is refused, and the other finishes the study."""

    def steal(event: Event) -> None:
        if (event.what, event.round, event.site) == ("reported", 2, "a"):
            with toy.ledger.engine.begin() as db:
                db.exec_driver_sql("UPDATE leases SET holder = 'them'")

    with taken(tmp_path, steal) as (toy, run):
        run()
        assert len(toy.states()) == 2
        assert toy.ledger.study_state(toy.digest)[0] == State.RUNNING, "it is the other hub's now"
        theirs = Lease(toy.ledger.engine, toy.digest, "them")
        assert theirs.take()
        run_turn(replace(toy.federation(), fence=theirs.fence), toy.digest)
        assert toy.ledger.study_state(toy.digest)[0] == State.FINISHED
        assert toy.credited() == {number: ["a", "b"] for number in (1, 2, 3)}
