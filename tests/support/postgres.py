"""A real PostgreSQL server for the tests of one session, from Debian's packages, and new databases in it.

It runs as a user without rights, because PostgreSQL refuses root, answers on a Unix socket in its own folder alone,
and needs no password there. Its texts are sorted by a language's rules, as most servers' are: `a-b` after `ab`.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

PATIENCE_SECONDS = 30.0
LOCALE = ("--locale-provider=icu", "--icu-locale=en-US", "--locale=C", "--encoding=UTF8")
# a server for tests need not survive a power cut
QUICK = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "max_connections=40")


class Server:
    """A server with its files in `folder`; it can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._user = {"user": "postgres", "group": "postgres", "extra_groups": ()} if os.geteuid() == 0 else {}
        if self._user:
            there = pwd.getpwnam("postgres")
            os.chown(folder, there.pw_uid, there.pw_gid)
        make = [programs / "initdb", "--username=polyward", "--auth=trust", *LOCALE, "--no-sync", folder / "data"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **self._user)  # type: ignore[call-overload]

    def start(self) -> None:
        command = [self._programs / "postgres", "-D", self._folder / "data", "-k", self._folder]
        command += ["-c", "listen_addresses=", *QUICK]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **self._user)  # type: ignore[call-overload]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "server.log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Every connection is cut, nothing is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def new_database(self) -> sa.URL:
        """The address of a new, empty one."""
        name = f"ledger_{next(self._numbers)}"
        with self._connected("postgres") as db:
            db.execute(f"CREATE DATABASE {name}")
        return sa.make_url(f"postgresql://polyward@/{name}?host={self._folder}")

    def drop(self, url: sa.URL) -> None:
        with self._connected("postgres") as db:
            db.execute(f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")

    def _connected(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(host=str(self._folder), user="polyward", dbname=database, autocommit=True)

    def _answers(self) -> bool:
        try:
            self._connected("postgres").close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres_server() -> Iterator[Server]:
    """A running server; without PostgreSQL's programs the test that asks for it is left out."""
    if (programs := _programs()) is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="polyward-postgres-"))  # short, as a socket's path must be
    try:
        server = Server(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parents[1].name))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).resolve().parent if elsewhere else None
