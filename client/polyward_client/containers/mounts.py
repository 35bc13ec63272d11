"""Mounts of a site's paths, each at the same place inside as on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from polyward_shared.containers import Mount


def mounted(path: Path, *, writable: bool = False) -> Mount:
    """A path of this machine at the same place: links on the way to it are followed here, for inside there are none."""
    return Mount(Path(os.path.realpath(path)), Path(os.path.normpath(path)), writable)


def shown(mounts: Sequence[Mount], hide: Sequence[str]) -> list[Path]:
    """Where what is to be hidden could be seen in the mounts: below one of them, and none itself."""
    own = {mount.source for mount in mounts}
    return [
        mount.target / path.relative_to(mount.source)
        for path in map(Path, hide)
        for mount in mounts
        if path not in own and path.is_relative_to(mount.source) and path.exists()
    ]


def outermost(mounts: list[Mount]) -> tuple[Mount, ...]:
    """Each target once, the last one said counting, and none that lies in a mount of the same kind anyway."""
    chosen = {mount.target: mount for mount in mounts}
    kept = []
    for mount in chosen.values():
        above = [other for other in chosen.values() if mount.target != other.target and _is_in(mount, other)]
        nearest = max(above, key=lambda other: len(other.target.parts), default=None)
        if nearest is None or nearest.writable is not mount.writable:
            kept.append(mount)
    return tuple(kept)


def _is_in(mount: Mount, other: Mount) -> bool:
    inside = mount.target.is_relative_to(other.target)
    return inside and mount.source == other.source / mount.target.relative_to(other.target)
