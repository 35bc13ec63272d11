"""A lease: one holder at a time, the same folder takes its own over, and a round of one who lost it is refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from polyward_server.lease import Lease, LeaseLost, holder_of
from polyward_server.ledger import Ledger
from polyward_server.records import Round
from tests.support.toy_trainer import toy_study

STUDY = toy_study()
DIGEST = STUDY.digest()


def test_the_holder_is_the_folder(tmp_path: Path) -> None:
    first = holder_of(tmp_path / "a")
    assert holder_of(tmp_path / "a") == first != holder_of(tmp_path / "b")
    assert (tmp_path / "a" / "secrets" / "holder").stat().st_mode & 0o777 == 0o600


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    ledger, other = Ledger(tmp_path / "ledger.db"), Ledger(tmp_path / "ledger.db")
    ledger.queue(STUDY)
    ours = Lease(ledger.engine, DIGEST, "ours")
    assert ours.take()
    assert not Lease(other.engine, DIGEST, "theirs").take()
    assert Lease(ledger.engine, DIGEST, "ours").take(), "a runner that follows one that was killed"
    with ours:
        pass
    assert Lease(other.engine, DIGEST, "theirs").take(), "it was given back"


def test_a_lease_is_renewed_while_it_is_held_and_ends_without(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.queue(STUDY)
    ours = Lease(ledger.engine, DIGEST, "ours", seconds=2.0)
    theirs = Lease(ledger.engine, DIGEST, "theirs", seconds=0.3)
    assert ours.take()
    with ours:
        time.sleep(3)
        assert not theirs.take()
    assert theirs.take()
    time.sleep(0.4)
    assert ours.take(), "nobody renewed theirs"


def test_who_lost_the_lease_commits_nothing(tmp_path: Path) -> None:
    """As a hub whose clock is ahead takes it: clocks decide who runs, never what is committed."""
    first, second = Ledger(tmp_path / "ledger.db"), Ledger(tmp_path / "ledger.db")
    first.queue(STUDY)
    ours, theirs = (Lease(ledger.engine, DIGEST, who, seconds=0.01) for ledger, who in ((first, "a"), (second, "b")))
    assert ours.take()
    first.commit_round(DIGEST, Round(0, "0" * 64, "e" * 64, 0.0), fence=ours.fence)
    time.sleep(0.05)
    assert theirs.take()
    with pytest.raises(LeaseLost):
        first.commit_round(DIGEST, Round(1, "1" * 64, "e" * 64, 0.0), fence=ours.fence)
    assert ours.lost.is_set()
    assert len(second.rounds(DIGEST)) == 1
    second.commit_round(DIGEST, Round(1, "2" * 64, "e" * 64, 0.0), fence=theirs.fence)
    assert second.rounds(DIGEST)[-1].state == "2" * 64
