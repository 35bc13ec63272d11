"""Mounts that show a process no more than its plan: what is hidden, what is read-only, what is left to write."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from polyward_client.isolation.kernel import (
    BIND,
    NO_DEV,
    NO_EXEC,
    NO_SUID,
    READ_ONLY,
    RECURSIVE,
    REMOUNT,
    make_read_only,
    mount_on,
)
from polyward_client.isolation.mounts import is_below, is_within, places_of, read_mounts
from polyward_client.isolation.plan import Plan


def arrange(plan: Plan) -> None:
    """Hides and protects, outer folders first."""
    mounts = read_mounts()
    hidden = {place for path in plan.hide for place in places_of(path, mounts, keep=plan.keep)}
    for place in sorted(hidden, key=lambda path: path.count("/")):
        if os.path.lexists(place):  # and not hidden with the folder that it lies in
            _hide(place, [path for path in plan.keep if is_below(path, place)])
    mounts = read_mounts()
    protected = {place for path in plan.read_only for place in places_of(path, mounts, keep=plan.keep)}
    for place in sorted(protected, key=lambda path: path.count("/")):
        _protect(place, [path for path in plan.keep if is_below(path, place)])


def _hide(place: str, keep: Sequence[str]) -> None:
    """An empty folder, or file, over `place`; what is kept below it comes back."""
    if not os.path.isdir(place):
        mount_on("/dev/null", place, "", BIND)
        return
    held = _held(keep)
    mount_on("tmpfs", place, "tmpfs", NO_SUID | NO_DEV | NO_EXEC, "size=256k,mode=755")
    for path, descriptor in held:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Path(path).touch()
        _put_back(path, descriptor)
    mount_on("none", place, "", REMOUNT | BIND | READ_ONLY | NO_SUID | NO_DEV | NO_EXEC)


def _protect(place: str, keep: Sequence[str]) -> None:
    """Makes `place`, and all that is mounted below it, read-only, except what is kept."""
    held = _held(keep)
    mount_on(place, place, "", BIND | RECURSIVE)
    for point in {mount.point for mount in read_mounts() if is_within(mount.point, place)}:
        make_read_only(point)
    for path, descriptor in held:
        _put_back(path, descriptor)


def guard(plan: Plan) -> None:
    """Leaves nothing of the guarded file systems writable but the plan's folders, wherever else they are mounted."""
    for path, descriptor in _held(plan.writable):
        _put_back(path, descriptor)  # a mount of its own, which stays as it is
    mounts = read_mounts()
    guarded = out_of_hand(plan)
    # whoever can rename a folder above can put another in its place
    devices = {mount.device for mount in mounts for path in guarded if is_within(path, mount.point)}
    for point in {mount.point for mount in mounts if mount.device in devices}:
        if not any(is_within(point, folder) for folder in plan.writable):
            try:
                make_read_only(point)
            except OSError as error:
                # such a mount lies under another one, or where this user does not get at all, as an engine's of its own
                if error.errno not in {errno.ENOENT, errno.EINVAL, errno.EACCES}:
                    raise
    for path in guarded:
        if not os.statvfs(path).f_flag & os.ST_RDONLY:
            raise OSError(errno.EPERM, "it could still be written to", path)


def out_of_hand(plan: Plan) -> list[str]:
    """What is guarded, as far as it is there and not among the part's own."""
    own = plan.writable
    return [path for path in plan.guarded if os.path.exists(path) and not any(is_within(path, place) for place in own)]


def _held(keep: Sequence[str]) -> list[tuple[str, int]]:
    """The outermost of the paths that exist, held open, so that they can be mounted from below what covers them."""
    outermost = [path for path in keep if os.path.exists(path) and not any(is_below(path, other) for other in keep)]
    return [(path, os.open(path, os.O_PATH)) for path in dict.fromkeys(outermost)]


def _put_back(path: str, descriptor: int) -> None:
    mount_on(f"/proc/self/fd/{descriptor}", path, "", BIND | RECURSIVE)
    os.close(descriptor)
