"""A hub's backup, restored elsewhere, is that hub; what is removed is what nobody needs."""

from __future__ import annotations

import json
import shutil
import stat
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from polyward_server import audit
from polyward_server.backup import KEPT, write_backup
from polyward_server.cli.app import app
from polyward_server.commands import order
from polyward_server.database import Where
from polyward_server.hub import Hub, init
from polyward_server.ledger import Ledger
from polyward_server.records import Contribution, Event, Round, State
from polyward_server.registry import Registry
from polyward_server.restore import FILE, restore
from polyward_server.retention import forget_sign_ins, remove, unneeded
from polyward_server.roster import Roster
from polyward_server.tables import failures, imports, leases, releases, sessions, tables, tags, users
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Problem
from polyward_shared.schema import Schema
from tests.support.postgres import Server
from tests.support.toy_trainer import toy_study

STUDY = toy_study()
DIGEST = STUDY.digest()
ROUNDS = 6
PASSPHRASE = b"correct horse battery"


def state(number: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.full(4, number, np.float32)


def fill(hub: Hub) -> list[Round]:
    """A study that was stopped after six rounds, each with a state and a memory in the registry."""
    ledger, registry = Ledger(hub.ledger), Registry(hub.registry)
    ledger.queue(STUDY)
    committed = []
    for number in range(ROUNDS + 1):
        kept = registry.add(Schema.of({"encoder.w": state(number)}), state(number), {})
        memory = registry.add(Schema.of({"memory.m": state(number)}), state(number), {}) if number else ""
        committed.append(Round(number, kept, f"{number:064x}", 0.0, memory))
        given = [Contribution("a-b", 1, 10, 0.5, "a" * 64, 36, 2**40, 1.5)] if number else []
        figures = [("a-b", Metric("mask", "test", Stage.TRAINED, "dice", 0.1 + 0.2, 7))] if number else []
        ledger.commit_round(DIGEST, committed[-1], given, figures)
    ledger.note(Event(DIGEST, ROUNDS, "", "said", 'a "word" \u00e9 \U0001f600 <script>', "ada"))
    roster = Roster(ledger)
    roster.register("a-b", "PEM of a-b")
    for _ in range(3):
        order(ledger, "a-b", "wake")
    with ledger.engine.begin() as db:
        db.execute(users.insert().values(name="ada", role="admin", made=""))
        db.execute(sessions.insert().values(id="s" * 64, user="ada", token="", began=0.0, seen=0.0))
        db.execute(leases.insert().values(study=DIGEST, holder="h", until=0.0))
    ledger.close()
    return committed


@pytest.fixture
def hub(tmp_path: Path, where: Where) -> Hub:
    made = init(tmp_path / "hub", name="north", host="127.0.0.1", port=8443)
    if not isinstance(where, Path):
        settle(made, str(where))
    return Hub(made.folder)


def settle(hub: Hub, database: str) -> None:
    path = hub.folder / "hub.toml"
    path.write_text(f"database = {json.dumps(database)}\n" + path.read_text())


def rows(where: Where) -> dict[str, list[tuple[object, ...]]]:
    ledger = Ledger(where)
    with ledger.engine.connect() as db:
        found = {table.name: [tuple(row) for row in db.execute(sa.select(table))] for table in tables.sorted_tables}
    ledger.close()
    return {name: sorted(each, key=repr) for name, each in found.items()}


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("ledger.db"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def restored(backup: Path, folder: Path, **how: object) -> Hub:
    return restore(backup, folder, **how)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "sealed"])
def test_a_backup_of_a_running_hub_is_that_hub_elsewhere(hub: Hub, tmp_path: Path, passphrase: bytes | None) -> None:
    committed = fill(hub)
    ledger = Ledger(hub.ledger)
    ledger.set_state(DIGEST, State.RUNNING)
    (hub.folder / "secrets" / "holder").write_text("this very hub")
    before, there = rows(hub.ledger), files(hub.folder)
    file = tmp_path / "backup"
    with ledger.engine.begin() as db:  # somebody writes meanwhile; what is not committed is not in it
        audit.append(db, Event(DIGEST, 0, "", "half"))
        manifest = write_backup(hub, file, passphrase=passphrase)
        db.rollback()
    ledger.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    if passphrase:
        assert b"hub.toml" not in file.read_bytes()
    new = restored(file, tmp_path / "new", passphrase=passphrase, database=FILE)
    assert new.ledger == tmp_path / "new" / "ledger.db"
    after = rows(new.ledger)
    assert {name for name in before if before[name] != after[name]} == {"sessions", "leases"}
    assert after["sessions"] == after["leases"] == []
    found = files(new.folder)
    for own in ("hub.toml", "secrets/holder", "keeping.lock"):
        there.pop(own, None), found.pop(own, None)
    assert found == there
    assert stat.S_IMODE(new.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (new.folder / "secrets").iterdir()} == {0o600}
    again = Ledger(new.ledger)
    with again.engine.connect() as db:
        assert audit.verify(db) == (manifest.events, manifest.head)
    assert again.rounds(DIGEST) == committed
    assert again.study_state(DIGEST)[0] == State.RUNNING
    Registry(new.registry).load(committed[-1].state)
    again.close()
    assert not list(tmp_path.glob(".new*"))


def test_a_hub_moves_to_a_database_server_and_back(tmp_path: Path, postgres: Server) -> None:
    hub = init(tmp_path / "hub", name="north", host="127.0.0.1", port=8443)
    fill(hub)
    write_backup(hub, tmp_path / "one")
    url = str(postgres.new_database())
    moved = restored(tmp_path / "one", tmp_path / "moved", database=url, password="s3cret")  # noqa: S106
    assert moved.file.database == url
    assert stat.S_IMODE(moved.password.stat().st_mode) == 0o600
    assert isinstance(moved.ledger, sa.URL)
    assert moved.ledger.password == "s3cret"  # noqa: S105
    ledger = Ledger(moved.ledger)
    assert order(ledger, "a-b", "wake") == 4, "numbers go on where they were"
    ledger.close()
    with pytest.raises(Problem, match="holds a ledger already"):
        restored(tmp_path / "one", tmp_path / "twice", database=url)
    assert not (tmp_path / "twice").exists()
    write_backup(moved, tmp_path / "two")
    back = restored(tmp_path / "two", tmp_path / "back", database=FILE)
    assert (back.file.database, back.password.exists()) == ("", False)
    first, last = rows(hub.ledger), rows(back.ledger)
    assert {name for name in first if first[name] != last[name]} == {"commands", "sessions", "leases"}
    assert len(last["commands"]) == 4
    postgres.drop(moved.ledger)


def damaged(change: Callable[[dict[str, bytes]], None], source: Path, target: Path) -> Path:
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return target


def flip(name: str) -> Callable[[dict[str, bytes]], None]:
    def change(parts: dict[str, bytes]) -> None:
        parts[name] = parts[name][:-2] + bytes([parts[name][-2] ^ 1]) + parts[name][-1:]

    return change


def rename(parts: dict[str, bytes]) -> None:
    text = parts["manifest.json"].decode().replace("hub/ca.pem", "hub/../ca.pem")
    parts["manifest.json"], parts["hub/../ca.pem"] = text.encode(), parts.pop("hub/ca.pem")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (flip("ledger/events.jsonl"), "is damaged: ledger/events.jsonl is not what it was"),
        (flip("hub/secrets/ca.key"), "is damaged: hub/secrets/ca.key is not what it was"),
        (lambda parts: parts.pop("ledger/events.jsonl"), "what it holds is not what its list says"),
        (rename, "holds 'hub/../ca.pem', which is no part of a hub"),
        (
            lambda parts: parts.update({"manifest.json": parts["manifest.json"].replace(b'"0002"', b'"0001"')}),
            "tables 0001",
        ),
    ],
)
def test_a_backup_that_is_not_whole_leaves_nothing(
    tmp_path: Path, change: Callable[[dict[str, bytes]], None], found: str
) -> None:
    hub = init(tmp_path / "hub", name="north", host="127.0.0.1", port=8443)
    fill(hub)
    write_backup(hub, tmp_path / "backup")
    bad = damaged(change, tmp_path / "backup", tmp_path / "bad")
    with pytest.raises(Problem, match=found):
        restore(bad, tmp_path / "new")
    assert not list(tmp_path.glob("*new*"))


def test_a_sealed_backup_opens_with_its_passphrase_alone_and_as_it_was_written(tmp_path: Path) -> None:
    hub = init(tmp_path / "hub", name="north", host="127.0.0.1", port=8443)
    Registry(hub.registry).add(Schema.of({"encoder.w": (big := np.zeros(600_000, np.float32))}), big, {})
    write_backup(hub, sealed := tmp_path / "backup", passphrase=PASSPHRASE)
    data = sealed.read_bytes()
    assert len(data) > 2 << 20, "more than two pieces"
    piece = (1 << 20) + 16
    swapped = data[:24] + data[24 + piece : 24 + 2 * piece] + data[24 : 24 + piece] + data[24 + 2 * piece :]
    for bad in (data[:-1], data[: 24 + piece], data + b"x", swapped, data[:30] + b"?" + data[31:], data[:20]):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(Problem, match="does not open"):
            restore(tmp_path / "bad", tmp_path / "new", passphrase=PASSPHRASE)
    with pytest.raises(Problem, match="does not open"):
        restore(sealed, tmp_path / "new", passphrase=PASSPHRASE + b"!")
    with pytest.raises(Problem, match="is sealed with a passphrase"):
        restore(sealed, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    restore(sealed, tmp_path / "new", passphrase=PASSPHRASE)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    hub = init(tmp_path / "hub", name="north", host="127.0.0.1", port=8443)
    write_backup(hub, tmp_path / "backup")
    with pytest.raises(Problem, match="is there already"):
        write_backup(hub, tmp_path / "backup")
    with pytest.raises(Problem, match="is there already"):
        restore(tmp_path / "backup", hub.folder)


def kept_states(hub: Hub, committed: list[Round]) -> tuple[list[int], list[int]]:
    here = Registry(hub.registry).digests()
    states = [one.number for one in committed if one.state in here]
    return states, [one.number for one in committed if one.memory in here]


def test_what_may_go_is_the_middle_of_what_has_ended_and_has_no_name(hub: Hub) -> None:
    committed = fill(hub)
    ledger, registry = Ledger(hub.ledger), Registry(hub.registry)
    alone = registry.add(Schema.of({"encoder.w": state(99)}), state(99), {})  # no round names it
    with ledger.engine.begin() as db:
        db.execute(tags.insert().values(tag="good", encoder=committed[2].state, at="", actor=""))
    events = len(ledger.noted())
    assert unneeded(ledger, registry, 1) == [], "it is queued"
    ledger.set_state(DIGEST, State.RUNNING)
    ledger.set_state(DIGEST, State.STOPPED)
    [found] = unneeded(ledger, registry, 2)
    assert (found.study, found.rounds) == (DIGEST, (1, 3, 4))
    assert kept_states(hub, committed) == (list(range(7)), list(range(1, 7))), "to look changes nothing"
    remove(ledger, registry, [found], actor="ada")
    assert kept_states(hub, committed) == ([0, 2, 5, 6], [2, 5, 6])
    assert alone in registry.digests()
    last = ledger.noted(last=1)[0].event
    assert (last.study, last.what, last.actor) == (DIGEST, "pruned", "ada")
    assert last.detail.startswith("6 states of rounds 1, 3-4, ")
    assert len(ledger.noted()) >= events + 1
    assert ledger.rounds(DIGEST) == committed, "its figures stay"
    assert unneeded(ledger, registry, 2) == []
    ledger.close()


@pytest.mark.parametrize("way", ["released", "imported", "started with"])
def test_what_is_named_elsewhere_stays(tmp_path: Path, way: str) -> None:
    hub = init(tmp_path / "hub", name="north", host="127.0.0.1", port=8443)
    committed = fill(hub)
    ledger, registry = Ledger(hub.ledger), Registry(hub.registry)
    ledger.set_state(DIGEST, State.RUNNING)
    ledger.set_state(DIGEST, State.STOPPED)
    third = committed[3].state
    with ledger.engine.begin() as db:
        if way == "released":
            values = {"name": "r", "encoder": third, "statement": "", "signature": "", "at": "", "actor": ""}
            db.execute(releases.insert().values(**values))
        elif way == "imported":
            db.execute(imports.insert().values(encoder=third, source="", lineage="{}", at="", actor=""))
    if way == "started with":
        ledger.queue(toy_study(id="next", encoder={**STUDY.encoder.model_dump(), "start": third}))
    remove(ledger, registry, unneeded(ledger, registry, 1), actor="")
    assert kept_states(hub, committed)[0] == [0, 3, 6]
    ledger.close()


def test_a_study_that_runs_again_loses_nothing(hub: Hub) -> None:
    committed = fill(hub)
    ledger, registry = Ledger(hub.ledger), Registry(hub.registry)
    ledger.set_state(DIGEST, State.RUNNING)
    ledger.set_state(DIGEST, State.STOPPED)
    found = unneeded(ledger, registry, 1)
    ledger.queue(STUDY)  # between the look and the removal
    remove(ledger, registry, found, actor="")
    assert kept_states(hub, committed)[0] == list(range(7))
    ledger.close()


def test_old_sign_ins_are_forgotten(hub: Hub) -> None:
    ledger, now = Ledger(hub.ledger), time.time()
    with ledger.engine.begin() as db:
        db.execute(users.insert().values(name="ada", role="admin", made=""))
        for name, seen in (("old", now - 3 * 86400), ("new", now - 86400)):
            db.execute(sessions.insert().values(id=name, user="ada", token="", began=0.0, seen=seen))
            db.execute(failures.insert().values(who=name, at=seen))
    assert forget_sign_ins(ledger, 2) == 2
    with ledger.engine.connect() as db:
        assert db.execute(sa.select(sessions.c.id)).scalars().all() == ["new"]
        assert db.execute(sa.select(failures.c.who)).scalars().all() == ["new"]
    ledger.close()


def test_the_commands_say_what_they_did(tmp_path: Path) -> None:
    hub = init(tmp_path / "hub", name="north", host="127.0.0.1", port=8443)
    fill(hub)
    path = hub.folder / "hub.toml"
    path.write_text(path.read_text().replace('keep_rounds = "all"', "keep_rounds = 1"))
    ledger = Ledger(hub.ledger)
    ledger.set_state(DIGEST, State.RUNNING)
    ledger.set_state(DIGEST, State.STOPPED)
    ledger.close()

    def said(*arguments: str | Path) -> str:
        done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    before = len(files(hub.registry))
    assert "1 to 5" in said("prune", hub.folder, "--dry-run")
    assert len(files(hub.registry)) == before
    assert "removed" in said("prune", hub.folder)
    assert len(files(hub.registry)) == before - 10
    assert "no states to remove" in said("prune", hub.folder)
    (tmp_path / "words").write_bytes(PASSPHRASE + b"\n")
    (tmp_path / "words").chmod(0o600)
    sealed = ("--passphrase-file", tmp_path / "words")
    assert "up to event" in said("backup", hub.folder, tmp_path / "backup", *sealed)
    assert "as it was on" in said("restore", tmp_path / "backup", tmp_path / "new", *sealed)
    assert "events are chained without a gap" in said("verify", tmp_path / "new")
    assert "is this version's" in said("migrate", tmp_path / "new")
    shutil.rmtree(tmp_path / "new")


def test_every_table_is_kept_but_those_of_the_moment() -> None:
    assert {table.name for table in tables.sorted_tables if table not in KEPT} == {"sessions", "failures", "leases"}
