"""From the tables of an earlier polyward to this one's: all of it or nothing, after a copy of a SQLite file."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from polyward_server.database import (
    HEAD,
    Where,
    begun,
    connected,
    mark,
    open_database,
    other_version,
    shown,
    stamped,
    version,
)
from polyward_shared.chain import sync_folder
from polyward_shared.problems import Problem

SCRIPTS = Path(__file__).with_name("migrations")


def migrate(where: Where) -> Path | None:
    """Brings the database to this version's tables, or makes them where there are none.

    Returns the copy of an earlier SQLite file, which lies beside it, if there was anything to do. Raises `Problem` for
    a later version's, which stays untouched, and when a step fails: the database is then as it was.
    """
    engine = connected(where)
    try:
        found = stamped(engine, where)
    finally:
        engine.dispose()
    if found in {"", HEAD}:
        open_database(where).dispose()
        return None
    if found > HEAD or not found.isdecimal():
        raise other_version(where, found)
    copy = _copied(where, found) if isinstance(where, Path) else None
    engine = connected(where)
    if engine.dialect.name == "sqlite":  # else no table that others refer to could be written anew
        sa.event.listen(engine, "connect", lambda db, _: db.execute("PRAGMA foreign_keys=OFF").close())
    try:
        with begun(engine) as db:
            if version(db, where) == found:  # else another process was here first
                mark(db, found)
                upgrade(db, HEAD)
                mark(db, HEAD)
                _check_references(db)
    except sa.exc.SQLAlchemyError as error:
        raise Problem(
            shown(where),
            f"could not be brought from tables {found} to {HEAD} ({_first_line(error)}); it is as it was",
            remedy="make room if the disk is full; else keep it, and use the version that wrote it",
        ) from None
    finally:
        engine.dispose()
    return copy


def upgrade(db: sa.Connection, revision: str) -> None:
    """Runs the migrations up to this one, within the transaction of `db`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = db
    command.upgrade(config, revision)


def _copied(path: Path, found: str) -> Path:
    """A whole copy of the file, with what is only in its write-ahead log so far, for this user alone."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    copy = path.with_name(f"{path.stem}-tables-{found}-{now}{path.suffix}")
    draft = copy.with_name(f".{copy.name}.draft")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        source, target = sqlite3.connect(path), sqlite3.connect(draft)
        try:
            source.backup(target)
        finally:
            target.close()
            source.close()
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, copy)
    except (OSError, sqlite3.Error) as error:
        draft.unlink(missing_ok=True)
        raise Problem(str(copy), f"cannot be written ({error})", remedy="make room for a copy of the ledger") from None
    sync_folder(path.parent)
    return copy


def _check_references(db: sa.Connection) -> None:
    """What SQLite did not watch while the tables were written anew."""
    if db.dialect.name == "sqlite" and (broken := db.exec_driver_sql("PRAGMA foreign_key_check").all()):
        raise sa.exc.IntegrityError("PRAGMA foreign_key_check", None, Exception(f"{len(broken)} rows refer to nothing"))


def _first_line(error: Any) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
