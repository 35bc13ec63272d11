"""The database that the ledger lies in: a SQLite file in WAL mode by default, or a PostgreSQL server's.

It is opened only with the tables of this very version. An older one is brought up by `polyward_server.migration`, which
this module does not import: a simulation opens many ledgers, and alembic takes longer to import than they to be made.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from polyward_server.tables import heads, tables
from polyward_shared.chain import GENESIS
from polyward_shared.problems import Problem

HEAD = "0002"  # of these tables, as the migrations count; numbers of one length, so that text order is their order
FIRST = "0001"  # the tables of `UNSTAMPED`
UNSTAMPED = 5  # a SQLite file said this in `user_version` before there were migrations
STAMPED = 6  # it says this since: an earlier polyward refuses it, and the stamp tells the rest
EVENTS = "events"  # the chain's name among `heads`
MIGRATING = 0x706F6C79  # PostgreSQL's lock for whoever makes or changes the tables
LOCAL = {"", "localhost", "127.0.0.1", "::1"}
WAIT_SECONDS = 10  # for a connection, or for another's lock

Where = Path | sa.URL

stamps = sa.MetaData()
stamp = sa.Table("alembic_version", stamps, sa.Column("version_num", sa.String(32), primary_key=True))


def located(where: str, password: Path) -> Where:
    """A ledger's file, or the address of a PostgreSQL database with the password that the other file holds, if any."""
    if not where.startswith("postgresql://"):
        return Path(where)
    try:
        url = sa.make_url(where)
    except (sa.exc.ArgumentError, ValueError):
        raise Problem(
            "hub.toml: database", f"found {where!r}", expected="postgresql://user@host:port/name", remedy="mend it"
        ) from None
    if url.password is not None or "password" in url.query:
        raise Problem(
            "hub.toml: database",
            "holds a password, in a file that others may read",
            expected=f"an address without one; the password in {password}, chmod 600",
            remedy="change the password as well",
        )
    if not password.exists():
        return url
    if password.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Problem(str(password), "can be read by others", remedy=f"chmod 600 {password}")
    return url.set(password=password.read_text(encoding="utf-8").strip())


def connected(where: Where | str) -> sa.Engine:
    """An engine for the database; nothing is read yet. A file that is new is for this user alone."""
    if isinstance(where, Path):
        # Never one that is there: to close it would undo the locks of this process' other connections to it, and the
        # next process to leave would take the write-ahead log away from under them.
        with suppress(OSError):  # SQLite says it better
            os.close(os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    url = sa.URL.create("sqlite", database=str(where)) if isinstance(where, Path) else sa.make_url(where)
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url)
        sa.event.listen(engine, "connect", _durable)
        return engine
    query = dict(url.query)
    if (url.host or "") not in LOCAL and "host" not in query:  # over a network only to whom the certificate names
        query = {"sslmode": "verify-full", **query}
        if query["sslmode"] == "verify-full":
            query.setdefault("sslrootcert", "system")
    query.setdefault("connect_timeout", str(WAIT_SECONDS))
    query.setdefault("application_name", "polyward")
    try:
        engine = sa.create_engine(url.set(drivername="postgresql+psycopg", query=query), pool_pre_ping=True)
    except ModuleNotFoundError:
        raise Problem(
            shown(where), "needs PostgreSQL's driver, which is not installed", remedy="pip install 'polyward[postgres]'"
        ) from None
    sa.event.listen(engine, "connect", _patient)
    return engine


def shown(where: Where | str) -> str:
    """For a person: the path, or the address without its password."""
    return str(where) if isinstance(where, Path) else sa.make_url(where).render_as_string(hide_password=True)


def open_database(where: Where | str) -> sa.Engine:
    """The database with this version's tables, made if it has none. Raises `Problem` for any other version."""
    engine = connected(where)
    try:
        found = stamped(engine, where)
        if not found:
            create(engine)
        elif found != HEAD:
            raise other_version(where, found)
    except sa.exc.DatabaseError as error:
        engine.dispose()
        raise _unusable(where, error) from None
    except Problem:
        engine.dispose()
        raise
    return engine


def stamped(engine: sa.Engine, where: Where | str) -> str:
    """What the tables are stamped with; empty where there are none. Raises `Problem` if nobody can tell."""
    try:
        with engine.connect() as db:
            return version(db, where)
    except sa.exc.DatabaseError as error:
        raise _unusable(where, error) from None


def version(db: sa.Connection, where: Where | str) -> str:
    """What the tables are stamped with; empty where there are none. Raises `Problem` for other versions' SQLite files.

    Changes nothing.
    """
    if db.dialect.has_table(db, stamp.name):
        return str(db.execute(sa.select(stamp.c.version_num)).scalar_one_or_none() or "")
    if db.dialect.name == "sqlite":
        number = db.exec_driver_sql("PRAGMA user_version").scalar_one()
        if number == UNSTAMPED:
            return FIRST
        if number != 0:
            raise _foreign(where, str(number), str(STAMPED))
    return ""


def create(engine: sa.Engine) -> None:
    """The tables of this version in an empty database, all or none, however many processes begin at once."""
    with begun(engine) as db:
        if db.dialect.has_table(db, stamp.name):
            return  # another process has made them meanwhile
        tables.create_all(db)
        db.execute(heads.insert().values(chain=EVENTS, number=0, hash=GENESIS))
        mark(db, HEAD)


def mark(db: sa.Connection, revision: str) -> None:
    """Says which tables there are now."""
    stamps.create_all(db)
    db.execute(sa.delete(stamp))
    db.execute(stamp.insert().values(version_num=revision))
    if db.dialect.name == "sqlite":
        db.exec_driver_sql(f"PRAGMA user_version = {STAMPED}")


@contextmanager
def begun(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that may change tables: alone from its beginning on, so what it finds stays so."""
    with engine.begin() as db:
        if db.dialect.name == "sqlite":
            db.exec_driver_sql("BEGIN IMMEDIATE")  # Python's driver would begin only with the first change of rows
        else:
            db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATING})")
        yield db


@contextmanager
def pictured(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection to read from, whose every look shows the same moment, whatever others write meanwhile."""
    with engine.connect() as db:
        if db.dialect.name == "sqlite":
            db.exec_driver_sql("BEGIN")
        else:
            db.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield db


def other_version(where: Where | str, found: str) -> Problem:
    """What is wrong with tables that are not this version's."""
    if found > HEAD or not found.isdecimal():
        return _foreign(where, found, HEAD)
    return Problem(
        shown(where),
        f"has the tables of an earlier polyward ({found}, this one has {HEAD})",
        remedy="polyward-hub migrate HUB brings them up; so does polyward-hub serve HUB",
    )


def _foreign(where: Where | str, found: str, ours: str) -> Problem:
    return Problem(
        shown(where),
        f"was written by another version of polyward (tables {found}, this one reads {ours})",
        remedy="use the version that wrote it, or start with a new hub folder",
    )


def _unusable(where: Where | str, error: sa.exc.DatabaseError) -> Problem:
    reason = str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__
    if isinstance(where, Path) or sa.make_url(where).get_backend_name() == "sqlite":
        return Problem(shown(where), f"cannot be opened as a ledger ({reason})", remedy="take the file from a backup")
    return Problem(
        shown(where),
        f"the database does not let us in ({reason})",
        remedy="see that its server runs, and look at `database` in hub.toml and at secrets/database",
    )


def _durable(connection: Any, _: Any) -> None:
    """A committed round survives a power cut; readers do not block the writer."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={WAIT_SECONDS * 1000}")
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except (
            sqlite3.OperationalError
        ) as error:  # another process switches the new file: SQLite does not wait for that
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _patient(connection: Any, _: Any) -> None:
    """A process that hangs within a transaction must not hold up the others for ever."""
    connection.autocommit = True  # a setting that is made in a transaction goes with it
    connection.execute(f"SET lock_timeout = '{WAIT_SECONDS}s'")
    connection.execute(f"SET idle_in_transaction_session_timeout = '{6 * WAIT_SECONDS}s'")
    connection.autocommit = False
