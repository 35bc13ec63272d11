"""A folder that a command writes: it appears whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polyward_shared.chain import sync_folder
from polyward_shared.problems import Problem


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A draft beside `path` that takes its place at the end, readable by the owner alone. Raises `Problem`."""
    path = path.resolve()
    check_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))  # 0700
    except OSError as error:
        raise Problem(str(path), f"cannot be written ({error.strerror})", remedy="name another folder") from None
    try:
        yield draft
        for file in draft.rglob("*"):
            _sync(file)
        os.replace(draft, path)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError):
            raise Problem(
                str(path), f"cannot be written ({error.strerror})", remedy="make room, or name another"
            ) from error
        raise
    sync_folder(path.parent)


def check_free(path: Path) -> None:
    """Raises `Problem` where something is that would be overwritten: before long work, not after it."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise Problem(str(path), "exists already", expected="a new or empty folder", remedy="name another, or move it")


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
