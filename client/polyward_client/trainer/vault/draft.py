"""A file that is there whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from polyward_shared.chain import sync_folder


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """What is written here appears at `path` complete and on the disk, for this user alone, or not at all.

    A file that it takes the place of keeps its owner: an administrator may do for the trainer's user what that does
    itself.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if os.geteuid() == 0 and path.exists():
                owner = path.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def drafts(folder: Path) -> list[Path]:
    """What a crash left in a study's folder of files that were never finished; only where nothing else writes now."""
    return [path for end in (".safetensors", ".json") for path in folder.glob(f".*{end}.*")]


def make_private(folder: Path) -> None:
    """Makes the folder, and those above it, for this user alone, and lasting."""
    if folder.is_dir():
        return
    make_private(folder.parent)
    folder.mkdir(exist_ok=True, mode=0o700)
    sync_folder(folder.parent)
