"""What people do to studies: in what order they run, who did it, and how one goes on from another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from polyward_server import coordination
from polyward_server.commands import orders
from polyward_server.ledger import Ledger
from polyward_server.records import Event, Member, Round, State
from polyward_shared.problems import Problem
from tests.support.toy_trainer import toy_study

STUDY = toy_study()
DIGEST = STUDY.digest()


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger("sqlite://")
    yield made
    made.close()


def events(ledger: Ledger) -> list[Event]:
    return [noted.event for noted in ledger.noted()]


def test_a_draft_is_kept_queued_or_forgotten_and_the_record_says_by_whom(ledger: Ledger) -> None:
    coordination.draft(ledger, STUDY, "ada")
    with pytest.raises(Problem, match="is here already"):
        coordination.draft(ledger, STUDY, "bob")
    coordination.discard(ledger, DIGEST, "bob")
    assert ledger.studies_in(*State) == []
    coordination.draft(ledger, STUDY, "ada")
    assert coordination.enqueue(ledger, STUDY, "eve") == DIGEST
    with pytest.raises(Problem, match="no draft"):
        coordination.discard(ledger, DIGEST, "bob")
    assert [(event.what, event.actor) for event in events(ledger)] == [
        ("draft", "ada"),
        ("discarded", "bob"),
        ("draft", "ada"),
        ("queued", "eve"),
    ]


def test_those_begun_come_first_then_by_priority_then_by_time(ledger: Ledger) -> None:
    a, b, c, d = (coordination.enqueue(ledger, toy_study(id=name), "ada") for name in "abcd")
    assert ledger.in_line() == [a, b, c, d]
    coordination.to_the_front(ledger, d, "ada")
    assert ledger.in_line() == [d, a, b, c]
    coordination.to_the_front(ledger, c, "ada")
    coordination.prioritise(ledger, a, -1, "ada")
    assert ledger.in_line() == [c, d, b, a]
    ledger.set_state(a, State.RUNNING)
    ledger.set_state(b, State.WAITING)
    assert ledger.in_line() == [a, b, c, d]
    coordination.pause(ledger, a, "ada")
    coordination.stop(ledger, c, "ada")
    assert ledger.in_line() == [b, d]
    coordination.resume(ledger, a, "ada")
    assert ledger.in_line() == [a, b, d]
    with pytest.raises(Problem, match="does not stand in line"):
        coordination.prioritise(ledger, c, 1, "ada")
    with pytest.raises(Problem, match="from -1000 to 1000"):
        coordination.prioritise(ledger, d, 1001, "ada")


def test_at_once_asks_the_members_to_end_their_work(ledger: Ledger) -> None:
    coordination.enqueue(ledger, STUDY, "ada")
    ledger.join(DIGEST, Member("north", 5, {"mask": 5}, "[]", "v1", True))
    ledger.set_state(DIGEST, State.RUNNING)
    coordination.pause(ledger, DIGEST, "ada")
    assert orders(ledger) == []
    coordination.resume(ledger, DIGEST, "ada")
    coordination.stop(ledger, DIGEST, "ada", now=True)
    assert [(order.site, order.what, order.study) for order in orders(ledger)] == [("north", "cancel", DIGEST)]


def test_an_extension_is_a_new_study_that_starts_with_the_last_encoder(ledger: Ledger) -> None:
    coordination.enqueue(ledger, STUDY, "ada")
    ledger.commit_round(DIGEST, Round(0, "0" * 64, "e" * 64, 0.0))
    with pytest.raises(Problem, match="no round yet"):
        coordination.extension(ledger, DIGEST, 2)
    ledger.commit_round(DIGEST, Round(1, "1" * 64, "f" * 64, 0.0))
    longer = coordination.extension(ledger, DIGEST, 2)
    assert (longer.id, longer.rounds, longer.encoder.start) == (f"{STUDY.id}-2", 2, "1" * 64)
    same = longer.model_copy(
        update={"id": STUDY.id, "rounds": STUDY.rounds, "encoder": longer.encoder.model_copy(update={"start": "seed"})}
    )
    assert same == STUDY
    digest = coordination.draft(ledger, longer, "ada", extends=DIGEST)
    assert ledger.study_state(digest)[0] == State.DRAFT
    ledger.commit_round(digest, Round(1, "2" * 64, "f" * 64, 0.0))
    assert coordination.extension(ledger, digest, 1).id == f"{STUDY.id}-3"


def test_sites_with_different_encoders_cannot_be_gone_on_from(ledger: Ledger) -> None:
    study = toy_study(aggregation={"rule": "clusters"}, participation={"quorum": 2})
    coordination.enqueue(ledger, study, "ada")
    ledger.commit_round(study.digest(), Round(1, "1" * 64, "f" * 64, 0.0))
    with pytest.raises(Problem, match="different encoders"):
        coordination.extension(ledger, study.digest(), 2)
