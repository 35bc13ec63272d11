"""Writing a small file whole or not at all, and on the disk before anybody goes on."""

from __future__ import annotations

import os
from pathlib import Path

from polyward_shared.chain import share_with_group, sync_folder


def write_whole(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replaces the file, or makes it and its folder (0700). A crash leaves the old file, the new one, or none."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.draft")
    with open(draft, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        share_with_group(file.fileno(), path.parent)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    sync_folder(path.parent)
