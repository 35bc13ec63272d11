"""The record of events: without gaps, never changed, and every change that happens all the same is found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from polyward_server import audit
from polyward_server.database import Where
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.tables import events, heads
from polyward_shared.chain import GENESIS
from polyward_shared.problems import Problem
from tests.server.test_ledger import url_of

WRITERS, EACH = 4, 50
UNGUARDED = {
    "sqlite": ("DROP TRIGGER events_refuse_update", "DROP TRIGGER events_refuse_delete"),
    "postgresql": ("DROP TRIGGER events_refuse ON events",),
}


@pytest.fixture
def ledger(where: Where) -> Iterator[Ledger]:
    """With five events."""
    made = Ledger(where)
    for number in range(1, 6):
        made.note(Event("study", number, "a", "asked", f"attempt {number}", "ada"))
    yield made
    made.close()


def verified(ledger: Ledger) -> tuple[int, str]:
    with ledger.engine.connect() as db:
        return audit.verify(db)


def test_a_sound_record_says_its_length_and_its_head(ledger: Ledger) -> None:
    assert verified(ledger) == (5, ledger.noted()[-1].hash)


@pytest.mark.parametrize("change", [events.update().values(detail="x"), sa.delete(events), sa.text("TRUNCATE events")])
def test_the_database_refuses_to_change_an_event(ledger: Ledger, change: sa.Executable) -> None:
    if isinstance(change, sa.TextClause) and ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no TRUNCATE")
    before = ledger.noted()
    with pytest.raises(sa.exc.DBAPIError, match="events are only appended"), ledger.engine.begin() as db:
        db.execute(change)
    assert ledger.noted() == before


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ([events.update().where(events.c.id == 3).values(detail="attempt 9")], "event 3 .* the chain is broken"),
        ([events.update().where(events.c.id == 3).values(actor="eve")], "event 3 .* the chain is broken"),
        ([sa.delete(events).where(events.c.id == 3)], "event 4 .* the chain is broken"),
        ([sa.delete(events).where(events.c.id == 1)], "event 2 .* the chain is broken"),
        (
            [
                events.update().where(events.c.id == 2).values(id=99),
                events.update().where(events.c.id == 3).values(id=2),
                events.update().where(events.c.id == 99).values(id=3),
            ],
            "event 2 .* the chain is broken",
        ),
        ([sa.delete(events).where(events.c.id > 3)], "end at number 3, and the last one that was written is 5"),
        ([sa.delete(events)], "end at number 0, and the last one that was written is 5"),
        ([sa.delete(heads)], "have no head"),
        ([heads.update().values(hash="0" * 64)], "end at number 5"),
        (
            [events.insert().values(id=6, at="", study="", round=0, site="", what="", detail="", hash="")],
            "event 6 .* was not written by a hub",
        ),
    ],
)
def test_whoever_gets_around_that_is_found_out(ledger: Ledger, changes: list[sa.Executable], found: str) -> None:
    with ledger.engine.begin() as db:
        for guard in UNGUARDED[db.dialect.name]:
            db.exec_driver_sql(guard)
        for change in changes:
            db.execute(change)
    with pytest.raises(Problem, match=found):
        verified(ledger)


def test_a_head_that_was_kept_elsewhere_tells_of_a_tail_that_was_cut_off(ledger: Ledger) -> None:
    fourth, kept = ledger.noted()[3:5]
    with ledger.engine.begin() as db:
        assert [audit.place_of(db, head) for head in (GENESIS, fourth.hash, kept.hash)] == [0, 4, 5]
        for guard in UNGUARDED[db.dialect.name]:
            db.exec_driver_sql(guard)
        db.execute(sa.delete(events).where(events.c.id == 5))
        db.execute(heads.update().values(number=4, hash=fourth.hash))
    assert verified(ledger) == (4, fourth.hash), "the chain itself is whole"
    with ledger.engine.connect() as db, pytest.raises(Problem, match="cut off or rewritten"):
        audit.place_of(db, kept.hash)


def test_nothing_is_appended_without_a_head(ledger: Ledger) -> None:
    with ledger.engine.begin() as db:
        db.execute(sa.delete(heads))
    with pytest.raises(Problem, match="have no head"):
        ledger.note(Event("study", 6, "a", "asked"))


def test_processes_that_append_at_once_leave_no_gap(ledger: Ledger, where: Where) -> None:
    code = f"""
import sys
from polyward_server.ledger import Ledger
from polyward_server.records import Event
ledger = Ledger(sys.argv[1])
for number in range({EACH}):
    ledger.note(Event(sys.argv[2], number, "", "one"))
"""
    command = [sys.executable, "-c", code, url_of(where)]
    writers = [subprocess.Popen([*command, f"writer {number}"]) for number in range(WRITERS)]
    assert [writer.wait(120) for writer in writers] == [0] * WRITERS
    count, _ = verified(ledger)
    assert count == 5 + WRITERS * EACH
    told = [each.event for each in ledger.noted(after=5)]
    for number in range(WRITERS):  # each writer's own, in its order
        assert [event.round for event in told if event.study == f"writer {number}"] == list(range(EACH))
