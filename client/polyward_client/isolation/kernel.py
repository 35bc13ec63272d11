"""What is asked of the kernel: mounts, and an end to privileges. Linux; `man 2 mount`, `man 2 prctl`."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

NEW_MOUNTS, NEW_USER, NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000  # CLONE_* of linux/sched.h
READ_ONLY, NO_SUID, NO_DEV, NO_EXEC, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18  # MS_*
NO_ATIME, NO_DIRATIME, REL_ATIME, STRICT_ATIME = 1024, 2048, 1 << 21, 1 << 24
SAME_FLAGS = {2: NO_SUID, 4: NO_DEV, 8: NO_EXEC, 1024: NO_ATIME, 2048: NO_DIRATIME, 4096: REL_ATIME}  # ST_* to MS_*
DUMPABLE, BOUNDING_DROP, NO_NEW_PRIVILEGES, AMBIENT, AMBIENT_CLEAR = 4, 24, 38, 47, 4  # PR_* of linux/prctl.h
CAPABILITY_VERSION = 0x20080522


def make_read_only(point: str) -> None:
    """The mount at this point, as it is otherwise. Raises `OSError`."""
    found = os.statvfs(point).f_flag
    flags = sum(flag for bit, flag in SAME_FLAGS.items() if found & bit)  # a user namespace may not relax them
    if not flags & (NO_ATIME | REL_ATIME):
        flags |= STRICT_ATIME
    mount_on("none", point, "", REMOUNT | BIND | READ_ONLY | flags)


def give_up_privileges() -> None:
    """No capabilities, now or after an exec, and nothing to be gained from set-user-id programs."""
    if sys.platform != "linux":
        return
    call("prctl", *_longs(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="utf-8"))
    for capability in range(last + 1):
        try:
            call("prctl", *_longs(BOUNDING_DROP, capability, 0, 0, 0))
        except PermissionError:  # without capabilities there is nothing to bound
            break
    call("prctl", *_longs(AMBIENT, AMBIENT_CLEAR, 0, 0, 0))
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))


def close_to_others() -> None:
    """Keeps other processes of root out of this one's memory, and of its view of the files, where it runs as root.

    Other users have a user namespace of their own for that; an exec undoes this, so the command itself asks for it.
    """
    if sys.platform == "linux" and os.geteuid() == 0:
        call("prctl", *_longs(DUMPABLE, 0, 0, 0, 0))


def _longs(*numbers: int) -> tuple[ctypes.c_ulong, ...]:
    return tuple(ctypes.c_ulong(number) for number in numbers)


def mount_on(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """`mount` of `man 2 mount`. Raises `OSError` with what the kernel says."""
    texts = [os.fsencode(text) if text else None for text in (source, target, kind)]
    call("mount", *texts, ctypes.c_ulong(flags), os.fsencode(options) if options else None, of=target)


def call(function: str, *arguments: object, of: str = "") -> None:
    """A function of the C library that answers with -1 when it fails: then `OSError`, about the path `of`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}", of or None)
