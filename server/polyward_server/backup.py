"""A hub's backup, taken while it runs: one file with everything that its folder cannot make again.

The ledger is in it as rows (`ledger/TABLE.jsonl`, one JSON list for each row, the names of the columns first), as they
were at one moment, so that it can be put into another kind of database. Beside it: `hub.toml`, certificates, secrets
and the registry. Not in it is what belongs to this very hub at this very time: who is signed in, and who holds leases.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from polyward_server import audit
from polyward_server.database import HEAD, connected, open_database, pictured
from polyward_server.hub import Hub
from polyward_server.sealing import Sealing
from polyward_server.tables import failures, leases, sessions, tables
from polyward_shared.archive import Contents, Kind, Part, Told, add, add_contents, add_file, stated
from polyward_shared.problems import Problem
from polyward_shared.supervise import only_one
from polyward_shared.whole import whole_file

OF_NOW = {leases.name, sessions.name, failures.name}
KEPT = tuple(table for table in tables.sorted_tables if table.name not in OF_NOW)  # those that others refer to first
OWN = {"holder"}  # among the secrets: two hubs that are taken for one would run one study both
ROWS_AT_ONCE = 1000
HUB = Kind(
    form="polyward hub backup 1",
    whose="hub",
    command="polyward-hub backup",
    names=re.compile(
        r"hub/(hub\.toml|ca\.pem|server\.pem)"
        r"|hub/secrets/[A-Za-z0-9][\w.-]*"
        r"|hub/registry/[0-9a-f]{64}\.safetensors"
        rf"|ledger/({'|'.join(table.name for table in KEPT)})\.jsonl"
    ),
    needed="hub/hub.toml",
)


class Manifest(Contents):
    """What a backup holds, and of which hub: the version of its tables, how many events, and the last one's hash."""

    hub: str
    tables: str
    events: int
    head: str


def write_backup(
    hub: Hub, target: Path, *, passphrase: bytes | None = None, told: Told = lambda _, __: None
) -> Manifest:
    """Writes the backup, whole or not at all, for this user alone. Raises `Problem` where there is a file already."""
    if target.exists():
        raise Problem(str(target), "is there already", expected="a new file", remedy="name another one")
    if not target.resolve().parent.is_dir():
        raise Problem(str(target.parent), "there is no such folder", remedy="make it, or name another one")
    open_database(hub.ledger).dispose()  # refuses other versions' tables
    engine = connected(hub.ledger)
    try:
        with (
            kept_together(hub),
            whole_file(target.resolve()) as file,
            _sealed(file, passphrase) as sink,
            zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive,
        ):
            with pictured(engine) as db:
                events, head = audit.verify(db)
                parts = [_add_rows(archive, db, table) for table in KEPT]
            files = _files(hub)  # after the rows: every state is on the disk before a row names it
            of, done = sum(path.stat().st_size for _, path in files), 0
            for name, path in files:
                parts.append(add_file(archive, name, path))
                told(done := done + parts[-1].bytes, of)
            manifest = Manifest(hub=hub.file.name, tables=HEAD, events=events, head=head, **stated(HUB, parts))
            add_contents(archive, manifest)
    finally:
        engine.dispose()
    return manifest


@contextmanager
def kept_together(hub: Hub) -> Iterator[None]:
    """While a backup reads the registry nobody removes from it, and the other way round."""
    descriptor = only_one(hub.folder / "keeping.lock", "a backup or a removal of this hub's states")
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _sealed(file: IO[bytes], passphrase: bytes | None) -> Iterator[IO[bytes]]:
    if passphrase is None:
        yield file
        return
    sealing = Sealing(file, passphrase)
    yield sealing  # type: ignore[misc]  # of IO, zipfile asks for `write` and `flush`
    sealing.close()


def _add_rows(archive: zipfile.ZipFile, db: sa.Connection, table: sa.Table) -> Part:
    with tempfile.TemporaryFile() as file:
        file.write(_line(list(table.columns.keys())))
        for row in db.execute(
            sa.select(table).order_by(*table.primary_key), execution_options={"yield_per": ROWS_AT_ONCE}
        ):
            file.write(_line(list(row)))
        file.seek(0)
        return add(archive, f"ledger/{table.name}.jsonl", file)


def _files(hub: Hub) -> list[tuple[str, Path]]:
    """Name in the archive and path. Raises `Problem` for a link."""
    secrets = sorted(
        path for path in (hub.folder / "secrets").iterdir() if path.name not in OWN and path.name[0] != "."
    )
    states = sorted(hub.registry.glob("*.safetensors"))
    found = [hub.folder / "hub.toml", hub.ca, hub.certificate, *secrets, *states]
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise Problem(str(path), "is a link or no file", remedy="put the file itself there")
    return [(f"hub/{path.relative_to(hub.folder).as_posix()}", path) for path in found]


def _line(row: list[object]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"
