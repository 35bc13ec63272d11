"""The head of the history, read on instead of anew."""

from __future__ import annotations

from pathlib import Path

from polyward_server.control.head import Head
from polyward_server.ledger import Ledger
from polyward_server.records import Contribution, Round
from polyward_shared.chain import GENESIS
from polyward_shared.checkpoints import head_after
from tests.support.toy_trainer import toy_study

STUDIES = [toy_study(id=name) for name in ("one", "two")]


def commit(ledger: Ledger, study: str, number: int) -> None:
    state = f"{number:064x}"
    given = [Contribution(site, 1, 10, 1.0, state, 36, 36, 1.0) for site in ("north", "south")[: number + 1]]
    ledger.commit_round(study, Round(number, state, state, 0.0), given)


def test_what_is_read_on_is_what_is_read_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    digests = [ledger.queue(study) for study in STUDIES]
    head = Head(ledger)
    assert head.now() == (0, GENESIS)
    for number in range(4):  # both studies have the same numbers of rounds, and other contributions
        for digest in digests[: 1 + number % 2]:
            commit(ledger, digest, number)
        history = ledger.history()
        assert head.now() == (len(history), head_after(history)) == head.now()
    assert Head(ledger).now() == head.now()
    ledger.close()


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    digest = ledger.queue(STUDIES[0])
    commit(ledger, digest, 0)
    head = Head(ledger)
    before = head.now()
    with ledger.engine.begin() as db:
        db.exec_driver_sql("UPDATE contributions SET sha256 = 'x'")
    assert head.now() == before
    assert Head(ledger).now() != before
    ledger.close()
