"""Reading what the trainer left in the spool: a folder that it may write into, so nothing in it is taken on trust.

A name there may lead to a file of the gate's own, be a pipe that never ends, or name a file that is cut while it is
read, which ends a process that has mapped it. So folders and files are opened without following links, and a file's
bytes are taken at once, no more of them than the study's arrays can need.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from polyward_shared.problems import Problem
from polyward_shared.schema import Schema
from polyward_shared.states import Arrays, state_in

LONGEST_HEADER = 4 << 20  # bytes before the arrays: names, shapes and places
BELOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe that nobody writes into answers at once


def read_handed(spool: Path, study: str, name: str, schema: Schema) -> Arrays:
    """The arrays of a state file in the study's folder of the spool. They are checked for nothing but their places.

    Of `name` only the last part counts, wherever the rest points. Raises `Problem` for anything but a whole file of a
    size that the schema's arrays can have.
    """
    path = spool / study / Path(name).name
    most = 4 * schema.size + LONGEST_HEADER
    try:
        descriptor = _opened(spool.parent, (spool.name, study, path.name))
        with os.fdopen(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode) or info.st_size > most:
                raise Problem(str(path), "is no file of the study's arrays alone", remedy="restart the node")
            data = file.read(most)
    except OSError as error:
        raise Problem(str(path), f"cannot be read ({error.strerror})", remedy="restart the node") from None
    return state_in(memoryview(data), str(path))[0]


def _opened(folder: Path, parts: tuple[str, ...]) -> int:
    """A descriptor of what lies below the folder under these names, none of which is a link. Raises `OSError`."""
    at = os.open(folder, BELOW | os.O_DIRECTORY)
    for part in parts:
        inner = -1
        try:
            inner = os.open(part, BELOW, dir_fd=at)
        finally:
            os.close(at)
        at = inner
    return at
