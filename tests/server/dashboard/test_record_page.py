"""The record of events: the tick, the alarm, pages, filters, and all of it as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from polyward_server.dashboard.verifying import Verifier
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.statements import keep_statement
from polyward_server.tables import events
from polyward_server.views.audit import Wanted, look, read_events
from polyward_shared import pki
from polyward_shared.chain import GENESIS
from polyward_shared.checkpoints import Checkpoint, Receipt, head_after
from tests.support.dashboard import Served


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.db")
    for number in range(5):
        made.note(Event("", 0, "north" if number % 2 else "south", "asks", f"={number}", "ada" if number < 2 else ""))
    yield made
    made.close()


def falsify(ledger: Ledger, number: int) -> None:
    """As somebody does who has the file: the guards go first."""
    with ledger.engine.begin() as db:
        db.execute(sa.text("DROP TRIGGER events_refuse_update"))
        db.execute(events.update().where(events.c.id == number).values(detail="nothing happened"))


def test_a_sound_record_is_looked_through_from_where_the_last_look_ended(ledger: Ledger) -> None:
    verifier = Verifier(ledger)
    first = verifier.verify()
    assert (first.events, first.problem) == (5, "")
    ledger.note(Event("", 0, "north", "asks"))
    second = verifier.verify()
    assert (second.events, second.whole_at) == (6, first.whole_at)
    assert second.head == ledger.noted(last=1)[0].hash


def test_a_change_of_an_old_event_is_found_by_a_whole_look_and_stays_found(ledger: Ledger) -> None:
    verifier = Verifier(ledger)
    verifier.verify()
    falsify(ledger, 3)
    assert verifier.verify().problem == ""  # only what is new was looked at
    assert "event 3 of the ledger: the chain is broken" in verifier.verify(whole=True).problem
    assert "event 3" in verifier.verify().problem  # a later short look does not take it back


def test_a_change_of_a_new_event_is_found_by_a_short_look(ledger: Ledger) -> None:
    verifier = Verifier(ledger)
    verifier.verify()
    ledger.note(Event("", 0, "north", "asks"))
    falsify(ledger, 6)
    assert "event 6 of the ledger" in verifier.verify().problem


def test_statements_of_sites_are_told_site_by_site(ledger: Ledger) -> None:
    key = pki.new_key()
    public = pki.public_key_pem(key.public_key())
    for count, mine in ((1, True), (2, True), (3, False)):
        stated = Checkpoint(
            site="north" if mine else "south", count=count, hash="a" * 64, at="2026-11-20T09:00:00+00:00"
        )
        signature = pki.signed(key, stated.statement()) if mine else b"forged"
        keep_statement(
            ledger, Receipt(**stated.model_dump(), rounds=0, head=head_after([], GENESIS)), signature, public
        )
    found = look(ledger, Verifier(ledger).found, whole=True)
    assert [(row.site, row.lines, row.statements, bool(row.problem)) for row in found.rows] == [
        ("south", 3, 1, True),
        ("north", 2, 2, False),
    ]
    assert "does not bear the site's signature" in found.problem


def test_pages_go_back_by_number_and_filters_hold(ledger: Ledger) -> None:
    newest = read_events(ledger, Wanted(), most=2)
    assert ([row.number for row in newest.rows], newest.older) == ([5, 4], 4)
    then = read_events(ledger, Wanted(before=newest.older), most=2)
    assert [row.number for row in then.rows] == [3, 2]
    last = read_events(ledger, Wanted(before=then.older), most=2)
    assert ([row.number for row in last.rows], last.older) == ([1], 0)
    assert [row.number for row in read_events(ledger, Wanted(site="north")).rows] == [4, 2]
    assert [row.number for row in read_events(ledger, Wanted(site="north", actor="ada")).rows] == [2]
    assert read_events(ledger, Wanted(what="nothing")).rows == ()
    assert (newest.sites, newest.kinds, newest.actors) == (("north", "south"), ("asks",), ("ada",))


def test_all_events_come_as_csv_and_no_cell_is_a_formula(dashboard: Served) -> None:
    dashboard.ledger.note(Event("", 0, "porto", "asks", "=1+1"))
    with dashboard.browser("viewer") as page:
        rows = list(csv.DictReader(io.StringIO(page.get("/api/record.csv").text)))
        some = list(csv.DictReader(io.StringIO(page.get("/api/record.csv?what=committed").text)))
    assert [int(row["number"]) for row in rows] == list(range(len(rows), 0, -1))
    assert len(rows) == len(dashboard.ledger.noted())
    assert rows[0]["detail"] == "'=1+1"
    assert len(some) == 13


@pytest.mark.parametrize(
    "query", ["before=x", "before=-1", "site=" + "x" * 70, "more=1", "before=99999999999999999999"]
)
def test_what_cannot_be_asked_for_is_refused(dashboard: Served, query: str) -> None:
    with dashboard.browser("viewer") as page:
        assert page.get(f"/api/record?{query}").status_code == 422
        assert page.get(f"/audit?{query}").status_code == 422


def test_a_broken_record_is_told_on_every_page(dashboard: Served) -> None:
    with dashboard.browser("coordinator") as page:
        said = page.post("/audit/verify", json={}).json()["said"]
        assert "events are whole" in said
        assert "does not agree" not in page.get("/").text
        falsify(dashboard.ledger, 2)
        assert "event 2 of the ledger" in page.post("/audit/verify", json={}).json()["said"]
        for path in ("/", "/sites", "/registry", "/audit", "/new"):
            assert "The record of events does not agree" in page.get(path).text
        assert page.get("/api/integrity").json()["problem"].startswith("event 2")
    with dashboard.browser("viewer") as page:
        assert page.post("/audit/verify", json={}).status_code == 403
