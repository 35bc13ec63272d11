"""The node's two processes: who runs them, which folders are whose, what each may see, and how each is started."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

from polyward_client.isolation.plan import SYSTEM_SOCKETS, Plan
from polyward_client.site import Site
from polyward_shared import problems
from polyward_shared.problems import Problem
from polyward_shared.supervise import Child, module, only_one

Part = Literal["gate", "trainer"]
PARTS: tuple[Part, ...] = ("trainer", "gate")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# how names become addresses, which the gate needs of what lies in SYSTEM_SOCKETS
RESOLVERS = tuple(f"{SYSTEM_SOCKETS}/{name}" for name in ("systemd/resolve", "NetworkManager", "resolvconf", "nscd"))
# the interpreter, its packages and ours, which may lie in a folder above the images
PROGRAM = (sys.prefix, sys.base_prefix, *(str(Path(ours).parents[1]) for ours in (__file__, problems.__file__)))


@dataclass(frozen=True, slots=True)
class User:
    """A user of the machine. `groups` are all that a process of theirs shall have besides `group`."""

    id: int
    group: int
    groups: tuple[int, ...]


def users_of(site: Site) -> Mapping[Part, User]:
    """The users that the two parts run as; none where the site's file names none. Raises `Problem`.

    The trainer gets the gate's group besides its own: that is the group of the folder where they meet.
    """
    names = site.file.isolation
    if not names.gate_user and not names.trainer_user:
        return {}
    if not (names.gate_user and names.trainer_user):
        missing = "trainer_user" if names.gate_user else "gate_user"
        raise Problem(str(site.path), f"isolation.{missing}: is missing", remedy="name both users, or none")
    if os.geteuid() != 0:
        raise Problem(
            str(site.path),
            "isolation: names two users, and only root can start processes as other users",
            remedy="start the node as root, or under systemd (polyward-node service --two-users SITE)",
        )
    gate = _user(site, "gate_user", names.gate_user)
    trainer = _user(site, "trainer_user", names.trainer_user)
    shared = tuple(sorted({*trainer.groups, gate.group}))
    return {"gate": gate, "trainer": User(trainer.id, trainer.group, shared)}


def _user(site: Site, key: str, name: str) -> User:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise Problem(
            str(site.path),
            f"isolation.{key}: this machine has no user {name!r}",
            remedy=f"useradd --system --shell /usr/sbin/nologin {name}",
        ) from None
    if found.pw_uid == 0:
        raise Problem(str(site.path), f"isolation.{key}: found root", remedy="name a user that owns nothing else")
    return User(found.pw_uid, found.pw_gid, tuple(os.getgrouplist(name, found.pw_gid)))


def make_folders(site: Site) -> None:
    """The site's folders, each with its owner and mode; what lies in them already is handed over as well.

    Without users of their own everything belongs to whoever starts the node, and nobody else may look.
    """
    users = users_of(site)
    try:
        site.root.mkdir(parents=True, exist_ok=True, mode=0o700)  # where nothing is, nothing could be hidden
        for folder in (site.state, site.approved, site.logs, site.gate, site.trainer, site.port):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if users:
            _hand_over(site, users["gate"], users["trainer"])
    except OSError as error:
        raise Problem(
            str(error.filename), f"cannot be made ({error.strerror})", remedy="mend the permissions of the folder above"
        ) from None


def _hand_over(site: Site, gate: User, trainer: User) -> None:
    site.lock.touch(mode=0o600)
    os.chown(site.lock, 0, gate.group)
    site.lock.chmod(0o660)  # where systemd keeps the parts, the gate holds it
    # people decide what is approved, both processes read it; each turns its own logs over and cannot touch the other's
    for folder, mode in ((site.state, 0o750), (site.approved, 0o2750), (site.logs, 0o3770)):
        os.chown(folder, 0, gate.group)
        folder.chmod(mode)
    for path in site.approved.iterdir():
        if path.is_file() and not path.is_symlink():
            os.chown(path, 0, gate.group)
            path.chmod(0o640)
    for folder, user, mode in ((site.gate, gate, 0o700), (site.trainer, trainer, 0o700), (site.port, gate, 0o2770)):
        os.chown(folder, user.id, user.group)
        folder.chmod(mode)
        _give(folder, user)
    _give(site.logs, gate, beginning="gate.log")
    _give(site.logs, trainer, beginning="trainer.log")


def _give(folder: Path, user: User, *, beginning: str = "") -> None:
    """Gives what root owns in a folder, where its name begins so, to its user.

    Nothing that the user put there is followed: no link to a file or folder of root's elsewhere, hard or symbolic.
    """
    shared = folder.stat().st_mode & stat.S_ISGID and not beginning
    for _, _, files, here in os.fwalk(folder, follow_symlinks=False):
        descriptors = [] if beginning else [os.dup(here)]
        for name in files:
            if name.startswith(beginning):
                with suppress(OSError):  # a symbolic link
                    descriptors.append(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here))
        for descriptor in descriptors:
            found = os.fstat(descriptor)
            is_folder = stat.S_ISDIR(found.st_mode)
            if found.st_uid == 0 and (is_folder or found.st_nlink == 1):
                os.fchown(descriptor, user.id, user.group)
                if shared:
                    os.fchmod(descriptor, 0o2770 if is_folder else 0o660)
            os.close(descriptor)


def plan_of(site: Site, part: Part) -> Plan:
    """What a part may see. Raises `Problem` where data and state lie so that they cannot be told apart.

    The gate sees no image, not even in the trainer's cache, and no key of the vault; the trainer no key of the node.
    """
    root, state = _real(site.root), _real(site.state)
    own = [_real(folder) for folder in (site.gate, site.trainer, site.port, site.approved, site.logs)]
    if root in {"/", state} or any(os.path.commonpath((root, folder)) == folder for folder in own):
        raise Problem(
            str(site.path),
            f"data.root: found {root}, which also holds what the site keeps",
            expected="a folder of its own, that may lie beside, above or below the site's folder",
            remedy="move the images into a folder of their own, and name that",
        )
    limits = site.file.limits
    keep = {state, _real(site.path), _real(site.ca), *(_real(Path(path)) for path in PROGRAM)}
    named = [os.path.expandvars(name) for name in (site.file.vault.key, site.file.vault.passphrase) if name]
    vault_keys = {_real(site.path.parent / name) for name in named}
    # a part that was broken into must not approve a study, change the policy, or leave a program for others to run
    guarded = (_real(site.path), _real(site.approved), *map(os.path.realpath, (*PROGRAM, *_home())))
    writable = tuple(_real(folder) for folder in (site.gate if part == "gate" else site.trainer, site.port, site.logs))
    if part == "gate":
        data = {root, _real(site.manifest), _real(site.trainer), *vault_keys}
        return Plan(
            part="gate",
            require=site.file.isolation.require,
            network=True,
            hide=(*sorted(path for path in data if os.path.exists(path)), SYSTEM_SOCKETS),
            read_only=(),
            keep=tuple(sorted((keep - data) | set(RESOLVERS))),
            guarded=guarded,
            writable=writable,
        )
    keep |= {path for path in vault_keys | {root} if path.startswith(f"{SYSTEM_SOCKETS}/")}
    gigabytes = limits.memory_gigabytes
    return Plan(
        part="trainer",
        require=site.file.isolation.require,
        network=False,
        hide=(_real(site.gate), SYSTEM_SOCKETS),
        read_only=(root,),
        keep=tuple(sorted(keep)),
        guarded=guarded,
        writable=writable,
        memory_bytes=None if gigabytes is None else round(gigabytes * 2**30),
        nice=limits.nice,
    )


def _real(path: Path) -> str:
    return os.path.realpath(path)


def _home() -> tuple[str, ...]:
    """Where programs of this user may lie. A folder that anybody may write into, as in our images, is nobody's home."""
    home = os.path.expanduser("~")
    return () if os.path.isdir(home) and os.stat(home).st_mode & stat.S_IWOTH else (home,)


@dataclass(frozen=True, slots=True)
class Start:
    """How a part is started: as whom, with which command and environment."""

    part: Part
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: User | None = None


def start_of(site: Site, part: Part, user: User | None = None) -> Start:
    """The part's command, isolated first."""
    threads = str(site.file.device.threads) if part == "trainer" else "1"
    environment = dict.fromkeys(ONE_THREAD, threads)
    own = str(site.gate if part == "gate" else site.trainer)
    environment["TMPDIR"] = environment["MPLCONFIGDIR"] = own  # all else is read-only
    if user is not None:
        environment["HOME"] = own  # where libraries may keep their own
    return Start(part, [*trial_of(site, part), *command_of(site, part)], environment, user)


def command_of(site: Site, part: Part) -> list[str]:
    return [*module(f"polyward_client.{part}", str(site.path)), str(site.state)]


def trial_of(site: Site, part: Part) -> list[str]:
    """The command that isolates itself as the part would be, and ends."""
    return module("polyward_client.isolation", plan_of(site, part).to_json())


def become(site: Site, part: Part) -> NoReturn:
    """Turns this process into the part, isolated first, where something else than a supervisor of ours keeps it.

    The gate holds the site's lock, so that there is one node of a site. Raises `Problem` if another holds it.
    """
    if part == "gate":
        os.set_inheritable(only_one(site.lock, site.name), True)
    start = start_of(site, part)
    os.chdir(site.port)
    os.environ.update(start.environment)
    os.execv(start.command[0], list(start.command))  # noqa: S606  # no shell is wanted


def child_of(site: Site, start: Start) -> Child:
    """The part as the supervisor keeps it. What users of their own write in the shared folder is for both."""
    who = start.user
    return Child(
        start.part,
        start.command,
        site.port,
        start.environment,
        user=who.id if who else None,
        group=who.group if who else None,
        groups=who.groups if who else None,
        umask=0o007 if who else 0o077,
    )
