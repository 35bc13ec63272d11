"""The hub's memory: all of a round or nothing, each site once, and it outlives the process."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from polyward_server.database import Where, connected, located
from polyward_server.ledger import Ledger
from polyward_server.records import Contribution, Event, Member, Round
from polyward_server.tables import rounds
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Problem
from tests.support.postgres import Server
from tests.support.toy_trainer import toy_study

STUDY = toy_study()
DIGEST = STUDY.digest()


def url_of(where: Where) -> str:
    """For another process."""
    return f"sqlite:///{where}" if isinstance(where, Path) else str(where)


def given(site: str, attempt: int = 1) -> Contribution:
    return Contribution(site, attempt, 10, 0.5, "a" * 64, 36, 36, 1.5)


def figure(stage: Stage, value: float = 0.5, name: str = "dice") -> Metric:
    return Metric("mask", "test", stage, name, value, 7)


def ends(site: str, number: int) -> Event:
    return Event(DIGEST, number, site, "finished")


@pytest.fixture
def ledger(where: Where) -> Iterator[Ledger]:
    made = Ledger(where)
    made.queue(STUDY)
    yield made
    made.close()


def test_a_round_is_read_as_it_was_committed(ledger: Ledger) -> None:
    assert ledger.last_round(DIGEST) is None
    zero, one = Round(0, "s" * 64, "e" * 64, 0.0), Round(1, "t" * 64, "f" * 64, 2.5)
    ledger.commit_round(DIGEST, zero)
    ledger.commit_round(DIGEST, one, [given("b"), given("a", 3)], [("a", figure(Stage.TRAINED))])
    assert ledger.rounds(DIGEST) == [zero, one]
    assert ledger.last_round(DIGEST) == one
    assert ledger.contributions(DIGEST) == {1: [given("a", 3), given("b")]}
    assert ledger.metrics(DIGEST) == [(1, "a", figure(Stage.TRAINED))]


def test_a_second_contribution_of_a_site_to_a_round_is_impossible(ledger: Ledger) -> None:
    ledger.commit_round(DIGEST, Round(0, "s" * 64, "e" * 64, 0.0))
    with pytest.raises(sa.exc.IntegrityError):
        ledger.commit_round(DIGEST, Round(1, "t" * 64, "f" * 64, 0.0), [given("a"), given("a", 2)])
    assert ledger.last_round(DIGEST) == Round(0, "s" * 64, "e" * 64, 0.0)
    assert ledger.contributions(DIGEST) == {}


def test_the_history_keeps_its_order_when_the_clock_is_set_back(ledger: Ledger) -> None:
    """Sites hold signatures under the beginning of the history, which another order would make false."""
    other = toy_study(seed=8)
    ledger.queue(other)
    ledger.commit_round(DIGEST, Round(0, "s" * 64, "e" * 64, 0.0))
    with ledger.engine.begin() as db:
        db.execute(rounds.update().values(committed="2999-12-31T23:59:59.999+00:00"))  # by a clock that was ahead
    before = ledger.history()
    ledger.commit_round(other.digest(), Round(0, "t" * 64, "f" * 64, 0.0))
    ledger.commit_round(DIGEST, Round(1, "u" * 64, "f" * 64, 0.0))
    assert [row[2][0] for row in ledger.history()] == ["s", "t", "u"]
    assert ledger.history()[:1] == before


def test_a_round_is_committed_once(ledger: Ledger) -> None:
    first = Round(1, "t" * 64, "f" * 64, 0.0)
    ledger.commit_round(DIGEST, first, [given("a")])
    with pytest.raises(sa.exc.IntegrityError):
        ledger.commit_round(DIGEST, Round(1, "x" * 64, "y" * 64, 0.0), [given("b")])
    assert (ledger.rounds(DIGEST), ledger.contributions(DIGEST)) == ([first], {1: [given("a")]})


def test_a_commit_is_all_or_nothing(ledger: Ledger) -> None:
    """The figures come last in the transaction; what is wrong with them undoes the round."""
    twice = [("a", figure(Stage.TRAINED, 0.5)), ("a", figure(Stage.TRAINED, 0.6))]
    with pytest.raises(sa.exc.IntegrityError):
        ledger.commit_round(DIGEST, Round(1, "t" * 64, "f" * 64, 0.0), [given("a")], twice)
    assert (ledger.rounds(DIGEST), ledger.contributions(DIGEST), ledger.metrics(DIGEST)) == ([], {}, [])
    assert not [event for _, event in ledger.events_after(0, DIGEST) if event.what == "committed"]


def test_a_commit_that_a_kill_interrupts_is_nothing(where: Where, ledger: Ledger) -> None:
    """The child dies within the transaction: after the round and the contributions, before the figures' end."""
    code = """
import os, signal, sys
from polyward_server.ledger import Ledger
from polyward_server.records import Round
from tests.server.test_ledger import DIGEST, figure, given
from polyward_shared.messages import Stage

def figures():
    yield "a", figure(Stage.TRAINED)
    os.kill(os.getpid(), signal.SIGKILL)

Ledger(sys.argv[1]).commit_round(DIGEST, Round(1, "t" * 64, "f" * 64, 0.0), [given("a")], figures())
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code, url_of(where)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (ledger.rounds(DIGEST), ledger.contributions(DIGEST), ledger.metrics(DIGEST)) == ([], {}, [])
    ledger.commit_round(DIGEST, Round(1, "t" * 64, "f" * 64, 0.0), [given("a")], [("a", figure(Stage.TRAINED))])
    assert len(ledger.rounds(DIGEST)) == 1


def test_final_figures_replace_those_of_the_same_site_and_no_others(ledger: Ledger) -> None:
    ledger.commit_round(DIGEST, Round(3, "t" * 64, "f" * 64, 0.0), [given("a")], [("a", figure(Stage.TRAINED))])
    ledger.conclude(ends("a", 3), {}, [figure(Stage.FINAL, 0.1), figure(Stage.FINAL, 1.0, "loss")])
    ledger.conclude(ends("b", 3), {}, [figure(Stage.FINAL, 0.2)])
    ledger.conclude(ends("a", 3), {}, [figure(Stage.FINAL, 0.3)])
    found = {(site, m.stage, m.name, m.value) for _, site, m in ledger.metrics(DIGEST)}
    assert found == {
        ("a", Stage.TRAINED, "dice", 0.5),
        ("a", Stage.FINAL, "dice", 0.3),
        ("b", Stage.FINAL, "dice", 0.2),
    }


def test_intervals_are_kept_and_absent_ones_stay_absent(ledger: Ledger) -> None:
    sure, bare = replace(figure(Stage.TRAINED), low=0.25, high=0.75), figure(Stage.TRAINED, name="loss")
    ledger.commit_round(DIGEST, Round(1, "t" * 64, "f" * 64, 0.0), [given("a")], [("a", sure), ("a", bare)])
    last = replace(figure(Stage.FINAL), low=0.0, high=0.0)
    ledger.conclude(ends("a", 1), {}, [last])
    assert {metric for _, _, metric in ledger.metrics(DIGEST)} == {sure, bare, last}


def test_studies_wait_in_a_queue(ledger: Ledger) -> None:
    assert ledger.studies_in("queued") == [DIGEST]
    assert ledger.study(DIGEST) == STUDY
    ledger.set_state(DIGEST, "failed", "no sites")
    assert ledger.study_state(DIGEST) == ("failed", "no sites")
    other = ledger.queue(toy_study(id="other"))
    assert ledger.queue(STUDY) == DIGEST
    assert ledger.study_state(DIGEST) == ("queued", "")
    assert set(ledger.studies_in("queued")) == {DIGEST, other}
    for state in ("running", "finished"):
        ledger.set_state(DIGEST, state)
        ledger.queue(STUDY)
        assert ledger.study_state(DIGEST)[0] == state


def test_joining_again_replaces_what_a_site_brought(ledger: Ledger) -> None:
    ledger.join(DIGEST, Member("a", 5, {"mask": 5}, "[]", "v1", True))
    again = Member("a", 6, {"mask": 6, "grade": 3}, "[]", "v2", False)
    ledger.join(DIGEST, again)
    assert ledger.members(DIGEST) == {"a": again}


def test_events_are_told_after_they_are_written(where: Where) -> None:
    told: list[Event] = []
    ledger = Ledger(where, watch=told.append)
    first, second = Event(DIGEST, 1, "a", "asked", "attempt 1"), Event(DIGEST, 1, "", "waiting")
    ledger.note(first)
    ledger.note(Event("other", 1, "a", "asked"))
    ledger.note(second)
    numbered = ledger.events_after(0, DIGEST)
    assert [event for _, event in numbered] == [first, second]
    assert ledger.events_after(numbered[0][0], DIGEST) == numbered[1:]
    assert told == [first, Event("other", 1, "a", "asked"), second]
    ledger.close()


def test_a_file_survives_a_power_cut_and_readers_do_not_block_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.queue(STUDY)
    with sqlite3.connect(tmp_path / "ledger.db") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM studies").fetchone() == (1,)
        ledger.note(Event(DIGEST, 1, "a", "asked"))
    other.close()
    ledger.close()


def test_a_ledger_is_for_its_user_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.queue(STUDY)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert len(list(tmp_path.iterdir())) == 3, "with the log and its index"
    ledger.close()


def test_a_file_of_another_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 7")
    db.close()
    with pytest.raises(Problem, match=r"another version of polyward \(tables 7, this one reads 6\)"):
        Ledger(path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    db.close()


def test_a_file_that_is_no_database_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("a letter " * 1000)
    with pytest.raises(Problem, match="cannot be opened as a ledger"):
        Ledger(tmp_path / "ledger.db")
    with pytest.raises(Problem, match="cannot be opened as a ledger"):
        Ledger(tmp_path / "none" / "ledger.db")


def test_sites_are_sorted_by_their_bytes_in_every_database(ledger: Ledger) -> None:
    """A language's rules would put `a-b` after `ab` and `B` after `a`; heads are signed over this order."""
    names = ["B", "a", "a-b", "a0", "ab", "b_c", "\u00e9"]
    for site in reversed(names):
        ledger.join(DIGEST, Member(site, 1, {}, "[]", "v1", True))
    assert list(ledger.members(DIGEST)) == names
    ledger.commit_round(DIGEST, Round(1, "t" * 64, "f" * 64, 0.0), [given(site) for site in reversed(names)])
    assert [each.site for each in ledger.contributions(DIGEST)[1]] == names
    assert [entry.partition("=")[0] for entry in ledger.history()[0][4:]] == names


def test_a_site_withdraws_once(ledger: Ledger) -> None:
    ledger.join(DIGEST, Member("a", 5, {"mask": 5}, "[]", "v1", True))
    ledger.commit_round(DIGEST, Round(4, "t" * 64, "f" * 64, 0.0))
    ledger.leave(DIGEST, "a")
    ledger.leave(DIGEST, "a")
    told = [event for _, event in ledger.events_after(0, DIGEST) if event.what == "withdrawn"]
    assert told == [Event(DIGEST, 4, "a", "withdrawn")]
    assert not ledger.members(DIGEST)["a"].agrees


def test_a_database_server_that_was_started_again_is_used_again(postgres: Server) -> None:
    """One call may fail, for its connection is gone; nothing of it is written, and the next call finds the server."""
    ledger = Ledger(url := postgres.new_database())
    ledger.queue(STUDY)
    with ledger.engine.connect() as held:
        held.execute(sa.select(rounds))
        postgres.stop()
        try:
            with pytest.raises(sa.exc.OperationalError):
                ledger.note(Event(DIGEST, 1, "a", "lost"))
            with pytest.raises(Problem, match="the database does not let us in"):
                Ledger(url)
        finally:
            postgres.start()
        with pytest.raises(sa.exc.OperationalError):
            held.execute(sa.select(rounds))
        held.rollback()
    ledger.note(Event(DIGEST, 1, "a", "found"))
    assert [each.event.what for each in ledger.noted(last=2)] == ["queued", "found"]
    ledger.close()


def test_no_password_is_ever_shown() -> None:
    url = sa.make_url("postgresql://ada:secret@127.0.0.1:9/ledger?connect_timeout=1")
    with pytest.raises(Problem, match="does not let us in") as caught:
        Ledger(url)
    assert "secret@" not in str(caught.value)
    assert "ada:***@" in str(caught.value)


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("postgresql://ada@db.example.org/l", {"sslmode": "verify-full", "sslrootcert": "system"}),
        ("postgresql://ada@db.example.org/l?sslrootcert=ca.pem", {"sslmode": "verify-full", "sslrootcert": "ca.pem"}),
        ("postgresql://ada@db.example.org/l?sslmode=require", {"sslmode": "require"}),
        ("postgresql://ada@127.0.0.1/l", {}),
        ("postgresql://ada@/l?host=/run/postgresql", {"host": "/run/postgresql"}),
    ],
)
def test_over_a_network_the_database_server_must_prove_who_it_is(address: str, options: dict[str, str]) -> None:
    engine = connected(sa.make_url(address))
    ours = {"connect_timeout": "10", "application_name": "polyward"}
    assert dict(engine.url.query) == {**options, **ours}
    engine.dispose()


def test_where_the_ledger_is(tmp_path: Path) -> None:
    password = tmp_path / "database"
    assert located("/hub/ledger.db", password) == Path("/hub/ledger.db")
    assert located("postgresql://ada@db/l", password) == sa.make_url("postgresql://ada@db/l")
    password.write_text("s3cret\n")
    password.chmod(0o640)
    with pytest.raises(Problem, match="can be read by others"):
        located("postgresql://ada@db/l", password)
    password.chmod(0o600)
    assert located("postgresql://ada@db/l", password) == sa.make_url("postgresql://ada:s3cret@db/l")
    with pytest.raises(Problem, match=r"hub\.toml: database: found 'postgresql://ada@db:port/l'"):
        located("postgresql://ada@db:port/l", password)
    for address in ("postgresql://ada@db/l?password=hunter2", "postgresql://ada:hunter2@db/l"):
        with pytest.raises(Problem, match="holds a password") as caught:
            located(address, password)
        assert "hunter2" not in str(caught.value)


COMES_AND_GOES = """
import sys
from polyward_server.ledger import Ledger
from polyward_server.records import Event
ledger = Ledger(sys.argv[1])
ledger.note(Event(sys.argv[2], 0, "", "told"))
ledger.close()
"""


def test_two_openings_in_a_process_do_not_lose_what_others_write(tmp_path: Path) -> None:
    """A file that SQLite has open must not be opened and closed by hand: that would undo its locks."""
    path = tmp_path / "ledger.db"
    one = Ledger(path)
    one.queue(STUDY)
    other = Ledger(path)
    for times in (1, 2):  # the first to leave thinks that it was the last, and takes the write-ahead log with it
        command = [sys.executable, "-c", COMES_AND_GOES, url_of(path), DIGEST]
        subprocess.run(command, check=True, timeout=60)
        for ledger in (one, other):
            assert len([noted for noted in ledger.noted(study=DIGEST) if noted.event.what == "told"]) == times
    one.close()
    other.close()
