"""A process's own view of the machine, taken before anything else: `python -m polyward_client.isolation PLAN COMMAND`.

This goes into namespaces of its own (Linux; `man 7 namespaces`), gives up all capabilities and becomes the command.
It imports nothing but the standard library, for a process that has threads cannot enter a user namespace:

- network: the trainer's namespace has no interface. Unix sockets in the file system work across namespaces.
- mounts: folders that are hidden are empty, and folders that are read-only stay so, at every path that leads to them.
  Nor can a process that was broken into change what people decided, the programs, or the home of who runs it: the file
  systems that hold these are read-only but for the few folders of its own.
- users: in a namespace of its own, a process cannot look through /proc into those of others, whoever runs them.

Where the kernel refuses, it is enough that the machine already is so, as in a container without a network or under our
systemd units with two users; otherwise the command does not start. Without a command this only tries.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyward_shared.problems import Problem

NEW_MOUNTS, NEW_USER, NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000  # CLONE_* of linux/sched.h
READ_ONLY, NO_SUID, NO_DEV, NO_EXEC, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18  # MS_*
NO_ATIME, NO_DIRATIME, REL_ATIME, STRICT_ATIME = 1024, 2048, 1 << 21, 1 << 24
SAME_FLAGS = {2: NO_SUID, 4: NO_DEV, 8: NO_EXEC, 1024: NO_ATIME, 2048: NO_DIRATIME, 4096: REL_ATIME}  # ST_* to MS_*
DUMPABLE, BOUNDING_DROP, NO_NEW_PRIVILEGES, AMBIENT, AMBIENT_CLEAR = 4, 24, 38, 47, 4  # PR_* of linux/prctl.h
CAPABILITY_VERSION = 0x20080522
SYSTEM_SOCKETS = "/run"  # of Docker, D-Bus and others, who would act for whoever asks
# what a kernel with tunnel modules puts into every network namespace, always down
LIFELESS = {"lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}
REMEDY = (
    "allow unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, or "
    "kernel.apparmor_restrict_unprivileged_userns), or run it under systemd with two users (polyward-node service "
    "--two-users SITE), or write require = false under [isolation] in the site's file and do without"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process may see and take. Paths are absolute and without links.

    `keep` are paths that stay as they are below hidden or read-only ones. Of the file systems that hold a part of
    `guarded`, or a folder above it, nothing can be written but what is below `writable`.
    """

    part: str
    require: bool
    network: bool
    hide: tuple[str, ...]
    read_only: tuple[str, ...]
    keep: tuple[str, ...]
    guarded: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    memory_bytes: int | None = None
    nice: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        fields: Any = {
            name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()
        }
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo: the file system's device, its folder that is mounted, and where."""

    device: str
    root: str
    point: str


def enter(plan: Plan) -> None:
    """Isolates this process, which has one thread, for good. Raises `Problem` where that is required and impossible."""
    if plan.require:
        _isolate(plan)
    give_up_privileges()
    if plan.memory_bytes is not None:
        # anonymous writable memory only: CUDA reserves address space by the terabyte, which RLIMIT_AS would count
        resource.setrlimit(resource.RLIMIT_DATA, (plan.memory_bytes, plan.memory_bytes))
    os.nice(plan.nice)
    for folder in plan.read_only:
        if not os.access(folder, os.R_OK | os.X_OK):
            raise Problem(
                folder,
                f"the {plan.part}, which has no privileges, may not read this folder",
                remedy="let a user start the node who may read it, or name one under [isolation] trainer_user",
            )


def _isolate(plan: Plan) -> None:
    """Each way is tried in a copy of this process first: half of an isolation cannot be taken back."""
    refused = "this is not Linux"
    if sys.platform == "linux":
        for own_users in (True, False) if os.geteuid() == 0 else (True,):
            reason = _tried(lambda own=own_users: _apply(plan, own_users=own))  # type: ignore[misc]
            if not reason:
                _apply(plan, own_users=own_users)
                return
            refused = reason
        if _is_already_so(plan):
            return
    raise Problem(
        f"the {plan.part}",
        f"the system does not let it be isolated ({refused})",
        expected="no network for the trainer, no images for the gate",
        remedy=REMEDY,
    )


def _tried(step: Callable[[], None]) -> str:
    """What stands in the way of a step, tried in a copy of this process; empty when nothing does."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            step()
            os._exit(0)
        except OSError as error:
            os.write(writer, str(error).encode()[:1000])
        finally:  # whatever happened, this copy goes no further
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        reason = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return reason or ("" if status == 0 else f"the attempt ended with status {status}")


def _apply(plan: Plan, *, own_users: bool) -> None:
    """Raises `OSError` with the step that the kernel refused."""
    user, group, here = os.geteuid(), os.getegid(), os.getcwd()
    flags = NEW_MOUNTS | (0 if plan.network else NEW_NETWORK) | (NEW_USER if own_users else 0)
    _call("unshare", ctypes.c_int(flags))
    if own_users:
        Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="utf-8")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="utf-8")
    _mount("none", "/", "", RECURSIVE | PRIVATE)
    arrange(plan)
    _guard(plan)
    os.chdir(here)  # the same path in the new arrangement: from the old folder, what lies above is still in view


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


def places_of(path: str, mounts: Sequence[Mount], *, keep: Iterable[str] = ()) -> set[str]:
    """All paths at which the folder or file `path`, or a part of it, can be reached: file systems mounted twice."""
    keep = tuple(keep)
    inner = [
        mount for mount in mounts if is_below(mount.point, path) and not any(_within(mount.point, k) for k in keep)
    ]
    places = {path}
    for device, location in [_located(path, mounts), *((mount.device, mount.root) for mount in inner)]:
        for mount in mounts:
            if mount.device != device:
                continue
            if _within(location, mount.root):
                place = os.path.normpath(os.path.join(mount.point, os.path.relpath(location, mount.root)))
            elif _within(mount.root, location):
                place = mount.point
            else:
                continue
            if os.path.lexists(place) and not any(_within(place, k) for k in keep if is_below(k, path)):
                places.add(place)
    return places


def _located(path: str, mounts: Sequence[Mount]) -> tuple[str, str]:
    """The device that holds a path, and the path's place on it."""
    over = [mount for mount in mounts if _within(path, mount.point)]
    longest = max(len(mount.point) for mount in over)
    mount = [mount for mount in over if len(mount.point) == longest][-1]  # the last one lies on top
    return mount.device, os.path.normpath(os.path.join(mount.root, os.path.relpath(path, mount.point)))


def is_below(path: str, folder: str) -> bool:
    return path != folder and _within(path, folder)


def _within(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder


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


def _hide(place: str, keep: Sequence[str]) -> None:
    """An empty folder, or file, over `place`; what is kept below it comes back."""
    if not os.path.isdir(place):
        _mount("/dev/null", place, "", BIND)
        return
    held = _held(keep)
    _mount("tmpfs", place, "tmpfs", NO_SUID | NO_DEV | NO_EXEC, "size=256k,mode=755")
    for path, descriptor in held:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Path(path).touch()
        _put_back(path, descriptor)
    _mount("none", place, "", REMOUNT | BIND | READ_ONLY | NO_SUID | NO_DEV | NO_EXEC)


def _protect(place: str, keep: Sequence[str]) -> None:
    """Makes `place`, and all that is mounted below it, read-only, except what is kept."""
    held = _held(keep)
    _mount(place, place, "", BIND | RECURSIVE)
    for point in {mount.point for mount in read_mounts() if _within(mount.point, place)}:
        _make_read_only(point)
    for path, descriptor in held:
        _put_back(path, descriptor)


def _guard(plan: Plan) -> None:
    """Leaves nothing of the guarded file systems writable but the plan's folders, wherever else they are mounted."""
    for path, descriptor in _held(plan.writable):
        _put_back(path, descriptor)  # a mount of its own, which stays as it is
    mounts = read_mounts()
    guarded = _out_of_hand(plan)
    # whoever can rename a folder above can put another in its place
    devices = {mount.device for mount in mounts for path in guarded if _within(path, mount.point)}
    for point in {mount.point for mount in mounts if mount.device in devices}:
        if not any(_within(point, folder) for folder in plan.writable):
            try:
                _make_read_only(point)
            except OSError as error:
                # such a mount lies under another one, or where this user does not get at all, as an engine's of its own
                if error.errno not in {errno.ENOENT, errno.EINVAL, errno.EACCES}:
                    raise
    for path in guarded:
        if not os.statvfs(path).f_flag & os.ST_RDONLY:
            raise OSError(errno.EPERM, "it could still be written to", path)


def _out_of_hand(plan: Plan) -> list[str]:
    """What is guarded, as far as it is there and not among the part's own."""
    own = plan.writable
    return [path for path in plan.guarded if os.path.exists(path) and not any(_within(path, place) for place in own)]


def _make_read_only(point: str) -> None:
    found = os.statvfs(point).f_flag
    flags = sum(flag for bit, flag in SAME_FLAGS.items() if found & bit)  # a user namespace may not relax them
    if not flags & (NO_ATIME | REL_ATIME):
        flags |= STRICT_ATIME
    _mount("none", point, "", REMOUNT | BIND | READ_ONLY | flags)


def _held(keep: Sequence[str]) -> list[tuple[str, int]]:
    """The outermost of the paths that exist, held open, so that they can be mounted from below what covers them."""
    outermost = [path for path in keep if os.path.exists(path) and not any(is_below(path, other) for other in keep)]
    return [(path, os.open(path, os.O_PATH)) for path in dict.fromkeys(outermost)]


def _put_back(path: str, descriptor: int) -> None:
    _mount(f"/proc/self/fd/{descriptor}", path, "", BIND | RECURSIVE)
    os.close(descriptor)


def _is_already_so(plan: Plan) -> bool:
    """Whether a container or systemd has done what the plan asks for, as far as this process can find out."""
    return (
        (plan.network or not _networks())
        and all(is_out_of_reach(path, plan.keep) for path in plan.hide if path != SYSTEM_SOCKETS)
        and all(os.path.isdir(path) and is_read_only(path, plan.writable) for path in plan.read_only)
        and not any(os.access(path, os.W_OK) for path in _out_of_hand(plan))
    )


def is_read_only(folder: str, but: Sequence[str]) -> bool:
    """With all that is mounted below it: engines up to Docker 24 leave that writable in a mount that is not."""
    points = (folder, *(mount.point for mount in read_mounts() if is_below(mount.point, folder)))
    own = [point for point in points if not any(_within(point, place) for place in but)]
    return all(os.statvfs(point).f_flag & os.ST_RDONLY for point in own if os.access(point, os.F_OK))


def _networks() -> list[str]:
    try:
        return [name for _, name in socket.if_nameindex() if name not in LIFELESS]
    except OSError:  # systemd's RestrictAddressFamilies: not even asking is allowed
        return []


def is_out_of_reach(path: str, keep: Sequence[str]) -> bool:
    """With nothing below it but what is kept, and the folders on the way there."""
    try:
        below = [os.path.join(path, name) for name in os.listdir(path)]
        others = [place for place in below if not any(_within(place, kept) for kept in keep)]
        return all(any(is_below(kept, place) for kept in keep) and is_out_of_reach(place, keep) for place in others)
    except NotADirectoryError:
        return not os.access(path, os.R_OK) or not os.path.isfile(path)  # a device in its place
    except OSError:
        return True


def give_up_privileges() -> None:
    """No capabilities, now or after an exec, and nothing to be gained from set-user-id programs."""
    if sys.platform != "linux":
        return
    _call("prctl", *_longs(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="utf-8"))
    for capability in range(last + 1):
        try:
            _call("prctl", *_longs(BOUNDING_DROP, capability, 0, 0, 0))
        except PermissionError:  # without capabilities there is nothing to bound
            break
    _call("prctl", *_longs(AMBIENT, AMBIENT_CLEAR, 0, 0, 0))
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    _call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))


def close_to_others() -> None:
    """Keeps other processes of root out of this one's memory, and of its view of the files, where it runs as root.

    Other users have a user namespace of their own for that; an exec undoes this, so the command itself asks for it.
    """
    if sys.platform == "linux" and os.geteuid() == 0:
        _call("prctl", *_longs(DUMPABLE, 0, 0, 0, 0))


def _longs(*numbers: int) -> tuple[ctypes.c_ulong, ...]:
    return tuple(ctypes.c_ulong(number) for number in numbers)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    texts = [os.fsencode(text) if text else None for text in (source, target, kind)]
    _call("mount", *texts, ctypes.c_ulong(flags), os.fsencode(options) if options else None, of=target)


def _call(function: str, *arguments: object, of: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}", of or None)


def main(arguments: Sequence[str]) -> None:
    """Enters the plan's isolation and becomes the command. A `Problem` is printed as JSON, with exit code 2."""
    plan, command = Plan.from_json(arguments[0]), arguments[1:]
    try:
        enter(plan)
    except Problem as problem:
        print(json.dumps([problem.where, problem.found, problem.expected, problem.remedy]))
        print(problem, file=sys.stderr)
        sys.exit(2)
    if command:
        os.execv(command[0], list(command))  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
