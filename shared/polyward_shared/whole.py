"""Writing a file whole or not at all, and on the disk before anybody goes on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from polyward_shared.chain import share_with_group, sync_folder


def write_whole(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replaces a small file, or makes it and its folder (0700). A crash leaves the old file, the new one, or none."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.draft")
    with open(draft, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        share_with_group(file.fileno(), path.parent)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    sync_folder(path.parent)


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


def make_private(folder: Path) -> None:
    """Makes the folder, and those above it, for this user alone, and lasting."""
    if folder.is_dir():
        return
    make_private(folder.parent)
    folder.mkdir(exist_ok=True, mode=0o700)
    sync_folder(folder.parent)
