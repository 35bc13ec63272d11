"""What the node's processes write about themselves: on stderr, and in files that turn over, without patients in them.

A line may hold what is the same whoever the patients are: our own sentences, numbers, codes, names of studies. It holds

- no path below the data root, in whatever text it comes;
- of an exception its kind and the places in the code, never its message, which may quote a cell or a file's name: the
  message is shown where a person asks for it, by `polyward-node check`;
- in the trainer's log, of other libraries' lines that there was one: they quote what they read.

The same holds on stderr, which systemd keeps in its journal.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Any

from polyward_client.site import Site
from polyward_shared.problems import Problem, Refused

MEGABYTE = 1_000_000
OWN = re.compile(r"(polyward(_client|_shared)?(\.|$)|__main__$)")  # what loggers of ours are called
HIDDEN = "[a path of the data]"
LINE = "%(asctime)s {part} %(levelname)s %(message)s"


def log_handlers(site: Site, part: str) -> list[logging.Handler]:
    """For one process of the node: stderr, and `logs/<part>.log`, which only this user may read."""
    site.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    limits = site.file.limits
    file = _PrivateFile(
        site.logs / f"{part}.log", maxBytes=limits.log_megabytes * MEGABYTE, backupCount=limits.log_files
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(), file]
    for handler in handlers:
        handler.setFormatter(Discreet(site.root, part, foreign=part != "trainer"))
    logging.captureWarnings(True)
    sys.excepthook = _log_death
    threading.excepthook = lambda end: _log_death(end.exc_type, end.exc_value, end.exc_traceback)
    return handlers


class Discreet(logging.Formatter):
    """Lines without paths below `root` and without messages of exceptions; without `foreign`, only our own lines."""

    def __init__(self, root: Path, part: str, *, foreign: bool) -> None:
        super().__init__(LINE.format(part=part))
        self._roots = sorted({str(root), str(root.absolute()), str(root.resolve())}, key=len, reverse=True)
        self._foreign = foreign

    def format(self, record: logging.LogRecord) -> str:
        record = logging.makeLogRecord(record.__dict__)  # other handlers see the record as it was
        if not self._foreign and not OWN.match(record.name):
            record.msg, record.args = f"a message of {record.name}, which is not kept", None
        elif isinstance(record.args, dict):
            record.args = {name: _told(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(_told(value) for value in record.args)
        if isinstance(record.msg, BaseException):
            record.msg = _told(record.msg)
        record.exc_text, record.stack_info = None, None
        return "\n".join(self._without_paths(line) for line in super().format(record).splitlines())

    def formatException(  # noqa: N802  # logging's name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        return "\n".join(_places(ei[1])) if ei[1] is not None else ""

    def _without_paths(self, line: str) -> str:
        """What follows a path cannot be told from the path, for names have spaces: the rest of the line goes."""
        for root in self._roots:
            before, found, _ = line.partition(root)
            if found:
                line = before + HIDDEN
        return line


def _told(value: Any) -> Any:
    """An argument as it may be written. Of exceptions: a refusal's code, a person's mistake in full, else the kind."""
    if isinstance(value, Refused):
        return str(value.code)
    if isinstance(value, Problem) or not isinstance(value, BaseException):
        return value  # a Problem that reaches a log is about the node: those about data become refusals
    return f"{type(value).__name__}: {value.strerror}" if isinstance(value, OSError) else type(value).__name__


def _places(error: BaseException) -> list[str]:
    """The exception's kind and where it passed, and the same of what caused it."""
    lines = [f"{type(error).__module__}.{type(error).__qualname__}, by way of"]
    lines += [
        f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return [*_places(cause), "and then", *lines] if cause is not None else lines


def _log_death(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is not None and not issubclass(kind, SystemExit):
        logging.getLogger("polyward").critical("a mistake in the program", exc_info=(kind, error, trace))


class _PrivateFile(RotatingFileHandler):
    """A log file that only its user may read, whatever the process's other files are."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding="utf-8", opener=lambda p, flags: os.open(p, flags, 0o600))
