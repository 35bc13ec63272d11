"""From a backup to a hub's folder: everything is checked in a folder beside it, then takes its place at once.

The ledger goes where `database` of hub.toml says, or elsewhere if somebody says so: that is how a hub moves from a
SQLite file to a PostgreSQL server and back.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from polyward_server import audit
from polyward_server.backup import HUB, KEPT, ROWS_AT_ONCE, Manifest
from polyward_server.database import HEAD, Where, connected, open_database, shown, stamped
from polyward_server.hub import Hub
from polyward_server.sealing import is_sealed, unseal
from polyward_server.tables import heads, studies, tables
from polyward_shared.archive import Told, contents_of, opened, unpack
from polyward_shared.chain import sync_folder
from polyward_shared.pki import write_secret
from polyward_shared.problems import Problem
from polyward_shared.whole import make_private, write_whole

FILE = "ledger.db"  # instead of an address: the ledger in the hub's folder
PUBLIC = ("hub.toml", "ca.pem", "server.pem")


def restore(
    backup: Path,
    folder: Path,
    *,
    passphrase: bytes | None = None,
    database: str | None = None,
    password: str | None = None,
    told: Told = lambda _, __: None,
) -> tuple[Hub, Manifest]:
    """Makes the hub's folder from a backup. All or nothing.

    `database`: an address for the ledger, or `FILE`, instead of what the backup's hub.toml says; `password`: of that
    database. Raises `Problem`: for a folder or a database that holds something, and for a backup that is not whole.
    """
    folder = folder.absolute()
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise Problem(str(folder), "is there already", expected="a new folder", remedy="name another one")
    make_private(folder.parent)
    for left in folder.parent.glob(f".{folder.name}.restoring-*"):
        shutil.rmtree(left)  # of a restore that was killed
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.restoring-", dir=folder.parent))
    try:
        plain = _opened_by(passphrase, backup, staging)
        with opened(plain, HUB) as archive:
            manifest = contents_of(archive, plain, HUB, Manifest)
            if manifest.tables != HEAD:
                raise Problem(
                    str(backup),
                    f"holds tables {manifest.tables}, and this version has {HEAD}",
                    remedy=f"restore it with {manifest.software}, then use this version",
                )
            unpack(archive, manifest, staging, backup, HUB, told)
        made = staging / "hub"
        for name in PUBLIC:
            (made / name).chmod(0o644)
        if database is not None:
            _point_to(made, database, password)
        place = _Place(made, folder)
        try:
            _fill_ledger(Hub(made).ledger, staging / "ledger", manifest, backup, place)
        except BaseException:
            place.undo()
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Hub(folder), manifest


def _opened_by(passphrase: bytes | None, backup: Path, staging: Path) -> Path:
    if not backup.is_file():
        raise Problem(str(backup), "there is no such file", remedy="check the path")
    if not is_sealed(backup):
        return backup
    if passphrase is None:
        raise Problem(str(backup), "is sealed with a passphrase", remedy="name its file with --passphrase-file")
    plain = staging / "backup.zip"
    with open(plain, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        unseal(backup, file, passphrase)
    return plain


def _point_to(made: Path, database: str, password: str | None) -> None:
    """Changes `database` in hub.toml, and its password."""
    path = made / "hub.toml"
    line = "" if database == FILE else f"database = {json.dumps(database)}\n"
    text = re.sub(r"(?m)^[ \t]*database[ \t]*=.*\n?", "", path.read_text(encoding="utf-8"))
    write_whole(path, (line + text).encode(), mode=0o644)
    (made / "secrets" / "database").unlink(missing_ok=True)
    if password is not None:
        write_secret(made / "secrets" / "database", password.encode())


class _Place:
    """Where the folder goes in the end."""

    def __init__(self, made: Path, folder: Path) -> None:
        self._made, self._folder, self._taken = made, folder, False

    def take(self) -> None:
        os.rename(self._made, self._folder)  # also over an empty folder
        self._taken = True
        sync_folder(self._folder.parent)

    def undo(self) -> None:
        if self._taken:
            shutil.rmtree(self._folder)


def _fill_ledger(where: Where, rows: Path, manifest: Manifest, backup: Path, place: _Place) -> None:
    """The rows in an empty database; a server's count from the moment on at which the folder is in its place."""
    engine = connected(where)
    try:
        if stamped(engine, where):
            with engine.connect() as db:
                if db.execute(sa.select(studies)).first() or db.execute(sa.select(heads.c.number)).scalar():
                    raise Problem(shown(where), "holds a ledger already", remedy="name an empty database")
        open_database(where).dispose()
        with engine.begin() as db:
            db.execute(sa.delete(heads))
            for table in KEPT:
                _fill(db, table, rows / f"{table.name}.jsonl", backup)
            _number_on(db)
            if audit.verify(db) != (manifest.events, manifest.head):
                raise HUB.unfit(backup, "holds other events than it says")
            if not isinstance(where, Path):
                place.take()
    finally:
        engine.dispose()
    if isinstance(where, Path):  # closed: SQLite would miss its file
        place.take()


def _fill(db: sa.Connection, table: sa.Table, path: Path, backup: Path) -> None:
    columns = table.columns.keys()
    batch: list[dict[str, Any]] = []
    try:
        with path.open("rb") as lines:
            if json.loads(next(lines)) != columns:
                raise HUB.unfit(backup, f"holds other columns of {table.name} than this version")
            for line in lines:
                batch.append(dict(zip(columns, json.loads(line), strict=True)))
                if len(batch) == ROWS_AT_ONCE:
                    db.execute(table.insert(), batch)
                    batch = []
            if batch:
                db.execute(table.insert(), batch)
    except sa.exc.OperationalError:
        raise
    except (OSError, ValueError, TypeError, StopIteration, RecursionError, sa.exc.StatementError):
        raise HUB.unfit(backup, f"is damaged: its table {table.name} cannot be read") from None


def _number_on(db: sa.Connection) -> None:
    """PostgreSQL counts what it numbers itself apart from the rows."""
    if db.dialect.name != "postgresql":
        return
    for table in tables.sorted_tables:
        column = table.autoincrement_column
        if column is not None:
            following = sa.select(sa.func.coalesce(sa.func.max(column), 0) + 1).scalar_subquery()
            counter = sa.func.pg_get_serial_sequence(table.name, column.name)
            db.execute(sa.select(sa.func.setval(counter, following, False)))
