"""The machine's mounts, and all the paths at which one folder can be reached."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo: the file system's device, its folder that is mounted, and where."""

    device: str
    root: str
    point: str


def read_mounts() -> list[Mount]:
    """This process's mounts, in the order in which they were made."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        device, root, point = line.split(" ")[2:5]
        mounts.append(Mount(device, _unescaped(root), _unescaped(point)))
    return mounts


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def places_of(path: str, mounts: Sequence[Mount], *, keep: Iterable[str] = ()) -> set[str]:
    """All paths at which the folder or file `path`, or a part of it, can be reached: file systems mounted twice."""
    keep = tuple(keep)
    inner = [
        mount for mount in mounts if is_below(mount.point, path) and not any(is_within(mount.point, k) for k in keep)
    ]
    places = {path}
    for device, location in [_located(path, mounts), *((mount.device, mount.root) for mount in inner)]:
        for mount in mounts:
            if mount.device != device:
                continue
            if is_within(location, mount.root):
                place = os.path.normpath(os.path.join(mount.point, os.path.relpath(location, mount.root)))
            elif is_within(mount.root, location):
                place = mount.point
            else:
                continue
            if os.path.lexists(place) and not any(is_within(place, k) for k in keep if is_below(k, path)):
                places.add(place)
    return places


def _located(path: str, mounts: Sequence[Mount]) -> tuple[str, str]:
    """The device that holds a path, and the path's place on it."""
    over = [mount for mount in mounts if is_within(path, mount.point)]
    longest = max(len(mount.point) for mount in over)
    mount = [mount for mount in over if len(mount.point) == longest][-1]  # the last one lies on top
    return mount.device, os.path.normpath(os.path.join(mount.root, os.path.relpath(path, mount.point)))


def is_below(path: str, folder: str) -> bool:
    return path != folder and is_within(path, folder)


def is_within(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder
