"""An earlier ledger becomes one of this version, with everything that it held, or stays as it was."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from polyward_server import audit
from polyward_server.contacts import Contact, read_contacts
from polyward_server.database import FIRST, HEAD, Where, begun, connected, create, mark
from polyward_server.ledger import Ledger
from polyward_server.migration import SCRIPTS, migrate, upgrade
from polyward_server.records import Contribution, Event, Member, Pair, Round
from polyward_server.roster import Roster
from polyward_server.statements import read_statements
from polyward_server.tables import tables
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Problem
from tests.server.test_ledger import DIGEST, STUDY

VERSION_5 = Path(__file__).with_name("ledger_of_version_5.sql")  # what `sqlite3 ledger.db .dump` says of a real one


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(VERSION_5.read_text())
    return path


@contextmanager
def looked_into(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as db:
        yield db


def dump(path: Path) -> str:
    with looked_into(path) as db:
        return "\n".join([str(db.execute("PRAGMA user_version").fetchone()), *db.iterdump()])


def test_everything_that_an_earlier_ledger_held_is_read_again(old: Path) -> None:
    copy = migrate(old)
    ledger = Ledger(old)
    assert ledger.study(DIGEST) == STUDY
    assert ledger.study_state(DIGEST) == ("stopped", "")
    assert ledger.members(DIGEST) == {
        "a": Member("a", 5, {"mask": 5}, "[]", "v1", True),
        "b-c": Member("b-c", 2**31 - 1, {"mask": 6}, "[]", "v1", True),
    }
    assert ledger.rounds(DIGEST) == [Round(0, "s" * 64, "e" * 64, 0.0), Round(1, "t" * 64, "f" * 64, 2.5)]
    given = [Contribution(site, 1, 10, 0.5, "a" * 64, 36, 36, 1.5) for site in ("a", "b-c")]
    assert ledger.contributions(DIGEST) == {1: given}
    assert ledger.metrics(DIGEST) == [(1, "a", Metric("mask", "test", Stage.TRAINED, "dice", 0.5, 7, 0.25, 0.75))]
    assert ledger.pairs(DIGEST) == {1: [Pair("a", "b-c", 0.5, 1.0)]}
    assert ledger.kept(DIGEST) == {("a", "mask"): "federated"}
    roster = Roster(ledger)
    assert roster.keys() == {"a": "PEM of a"}
    assert read_contacts(ledger) == {"a": Contact("a", True, 1.5, None, "v1", {"x": 1})}
    [(receipt, signature, _)] = read_statements(ledger)
    assert (receipt.count, receipt.rounds, signature) == (3, 2, b"\x01\x02")
    told = [each.event for each in ledger.noted()]
    assert told[0] == Event(DIGEST, 0, "a", "joined", "it said \u201chi\u201d")
    assert [each.what for each in told] == ["joined", "committed", "committed"]
    with ledger.engine.connect() as db:
        assert audit.verify(db)[0] == 3
    ledger.note(Event(DIGEST, 1, "", "started"))
    with ledger.engine.connect() as db:
        assert audit.verify(db)[0] == 4
    ledger.close()
    assert copy is not None
    assert migrate(old) is None


def test_old_events_are_numbered_without_gaps_and_chained(where: Where) -> None:
    engine = connected(where)
    insert = "INSERT INTO events (id, at, study, round, site, what, detail) VALUES ({0}, 'then', 's', {0}, '', 'w', '')"
    with begun(engine) as db:
        upgrade(db, FIRST)
        mark(db, FIRST)
        for number in (2, 5, 6, 1900):
            db.exec_driver_sql(insert.format(number))
    engine.dispose()
    migrate(where)
    ledger = Ledger(where)
    assert [(each.number, each.event.round) for each in ledger.noted()] == [(1, 2), (2, 5), (3, 6), (4, 1900)]
    with ledger.engine.connect() as db:
        assert audit.verify(db)[0] == 4
    ledger.close()


def test_before_anything_is_changed_a_copy_is_made_for_this_user_alone(old: Path) -> None:
    before = dump(old)
    copy = migrate(old)
    assert copy is not None
    assert copy.parent == old.parent
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert dump(copy) == before
    with pytest.raises(Problem, match="tables of an earlier polyward") as caught:
        Ledger(copy)
    assert "polyward-hub migrate" in caught.value.remedy
    assert dump(copy) == before


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(old: Path) -> None:
    with looked_into(old) as db:  # a row that refers to nothing: found at the very end
        db.execute("INSERT INTO kept VALUES ('no such study', 'a', 'mask', 'alone')")
        db.commit()
    before = dump(old)
    with pytest.raises(Problem, match=r"could not be brought from tables 0001 to 0002 .* it is as it was"):
        migrate(old)
    assert dump(old) == before


def test_a_migration_that_a_kill_interrupts_leaves_the_ledger_as_it_was(old: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from polyward_server.migration import migrate
sa.event.listen(sa.Engine, "commit", lambda db: os.kill(os.getpid(), signal.SIGKILL))
migrate(Path(sys.argv[1]))
"""
    before = dump(old)
    done = subprocess.run([sys.executable, "-c", code, str(old)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert dump(old) == before
    migrate(old)
    Ledger(old).close()


def test_a_later_ledger_is_refused_untouched(where: Where) -> None:
    Ledger(where).close()
    engine = connected(where)
    with begun(engine) as db:
        mark(db, "0099")
    for refused in (Ledger, migrate):
        with pytest.raises(Problem, match=rf"another version of polyward \(tables 0099, this one reads {HEAD}\)"):
            refused(where)
    with engine.connect() as db:
        assert db.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "0099"
    engine.dispose()


def test_the_head_is_that_of_the_migrations() -> None:
    scripts = ScriptDirectory(str(SCRIPTS))
    assert scripts.get_heads() == [HEAD]
    assert scripts.get_bases() == [FIRST]


@pytest.mark.parametrize("way", ["made", "migrated"])
def test_both_ways_lead_to_the_tables_that_the_code_knows(where: Where, way: str) -> None:
    engine = connected(where)
    if way == "made":
        create(engine)
    else:
        with begun(engine) as db:
            upgrade(db, HEAD)
    with engine.connect() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, tables) == []
        assert db.exec_driver_sql("SELECT chain, number FROM heads").all() == [("events", 0)]
        collations = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public'"
        if db.dialect.name == "postgresql":
            texts = f"{collations} AND data_type IN ('text', 'character varying') AND table_name <> 'alembic_version'"
            assert db.exec_driver_sql(f"{texts} AND collation_name IS DISTINCT FROM 'C'").scalar_one() == 0
    with engine.begin() as db:
        audit.append(db, Event("", 0, "", "one"))
    for change in ("UPDATE events SET detail = 'other'", "DELETE FROM events"):
        with pytest.raises(sa.exc.DBAPIError, match="events are only appended"), engine.begin() as db:
            db.exec_driver_sql(change)
    engine.dispose()


def test_many_processes_may_open_a_new_database_at_once(where: Where) -> None:
    code = "import sys; from polyward_server.ledger import Ledger; Ledger(sys.argv[1]).close()"
    url = f"sqlite:///{where}" if isinstance(where, Path) else str(where)
    opening = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(3)]
    assert [process.wait(60) for process in opening] == [0, 0, 0]
    ledger = Ledger(where)
    ledger.note(Event("", 0, "", "one"))
    assert [each.number for each in ledger.noted()] == [1]
    ledger.close()


def test_opening_a_ledger_does_not_import_alembic(tmp_path: Path) -> None:
    code = """
import sys
from polyward_server.ledger import Ledger
Ledger("sqlite:///ledger.db")
print("alembic" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "False\n"
