"""The node as three containers of two images: what each of them shall be.

    trainer   images, read-only; no network
    gate      no images; on a network that goes nowhere but to the way
    way       nothing but the site's file; a proxy that leads to the hub alone (`gate/way.py`)

Every path is the same inside as on this machine, so that all that site.toml names means the same.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from polyward_client.containers.mounts import mounted, outermost, shown
from polyward_client.gate.way import NAME as WAY
from polyward_client.gate.way import PORT, addresses_of
from polyward_client.parts import plan_of
from polyward_client.site import ONLY_GPU, Site
from polyward_shared.containers import CLOCK, LABEL, PART_LABEL, Mount, Wanted
from polyward_shared.problems import Problem

SITE_LABEL, FOLDER_LABEL = f"{LABEL}.site", f"{LABEL}.folder"
PARTS = ("way", "trainer", "gate")  # in the order of their start
NO_NAMES = "127.0.0.1"  # a name server that is not there: names of the gate's own network are known without one
GATE_GIGABYTES, WAY_GIGABYTES = 2.0, 0.25
FEW_PROCESSES, TRAINER_PROCESSES = 256, 4096
NULL = Path("/dev/null")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the containers depend on besides the site: the images' names, who they run as, the GPUs they are given, and
    the environment of whoever asks for them."""

    images: Mapping[str, str]  # of gate and trainer
    user: str  # uid:gid
    gpus: str = ""  # none, all, or a number
    environment: Mapping[str, str] | None = None

    def variable(self, name: str) -> str:
        return (self.environment or {}).get(name, "")


def name_of(site: Site, part: str) -> str:
    return f"polyward-{site.name}-{part}"


def networks_of(site: Site) -> tuple[str, str]:
    """The network of gate and way, which leads nowhere, and the way's own, which leads out."""
    return f"polyward-{site.name}", f"polyward-{site.name}-out"


def labels_of(site: Site, part: str = "") -> dict[str, str]:
    labels = {SITE_LABEL: site.name, FOLDER_LABEL: str(site.state)}
    return {**labels, PART_LABEL: part} if part else labels


def gpus_of(site: Site, *, nvidia: bool) -> str:
    """The GPUs that the trainer asks for; `nvidia` says whether the engine can give any."""
    kind, _, number = site.file.device.kind.partition(":")
    if kind == "cuda":
        return number or "all"
    return "all" if kind == "auto" and nvidia else ""


def wanted_of(site: Site, around: Surroundings) -> tuple[Wanted, ...]:
    """The three containers, in the order of their start. Raises `Problem`.

    The site's folders must be there: what is not cannot be covered, and the gate would see it once it is.
    """
    for folder in (site.state, site.approved, site.logs, site.gate, site.trainer, site.port):
        if not folder.is_dir():
            raise Problem(str(folder), "there is no such folder", remedy=f"polyward-node folders {site.path}")
    return _way(site, around), _trainer(site, around), _gate(site, around)


def check_site(site: Site) -> None:
    """Raises `Problem` if the site is not enrolled, or lacks what `check_folders` asks for."""
    for address in addresses_of(site):
        host = address.rpartition(":")[0].strip("[]")
        if host == "localhost" or (not host[-1:].isalpha() and ip_address(host).is_loopback):
            raise Problem(
                str(site.path),
                f"hub: found {address}, which inside a container is the container itself",
                remedy="write the name or address that other machines know the hub by",
            )
    for path in (site.key, site.certificate, site.ca):
        if not path.is_file():
            raise Problem(
                str(path), "there is no such file", remedy="join the federation first: polyward-node enrol INVITATION"
            )
    check_folders(site)


def check_folders(site: Site) -> None:
    """Raises `Problem` without a data folder, or where a path means another place inside a container."""
    if not site.root.is_dir():
        raise Problem(str(site.root), "data.root: there is no such folder", remedy="put the images there, or name it")
    for text in _written(site):
        if text.startswith("~"):
            raise Problem(
                str(site.path), f"found {text!r}, which depends on who reads it", remedy="write the whole path"
            )


def _written(site: Site) -> tuple[str, ...]:
    """The paths of the site's file as they are written there."""
    file = site.file
    return file.state, file.data.root, file.data.manifest, file.vault.key, file.vault.passphrase


def _variables(site: Site, around: Surroundings) -> dict[str, str]:
    """The environment variables that the site's paths contain."""
    names = {name for text in _written(site) for name in re.findall(r"\$\{?(\w+)", text)}
    return {name: around.variable(name) for name in sorted(names)}


def _trainer(site: Site, around: Surroundings) -> Wanted:
    plan = plan_of(site, "trainer")
    limits = site.file.limits
    one = around.gpus.isdecimal()
    mounts = [
        *_read(site),
        mounted(site.approved),
        mounted(site.root),
        *(mounted(path) for path in (site.manifest, *_vault_files(site)) if path.exists()),
        *(mounted(path, writable=True) for path in (site.trainer, site.port, site.logs)),
    ]
    return Wanted(
        name=name_of(site, "trainer"),
        image=around.images["trainer"],
        command=("part", str(site.path), "trainer"),
        user=around.user,
        mounts=outermost(mounts),
        environment={**_variables(site, around), **({ONLY_GPU: "cuda:0"} if one else {})},
        labels=labels_of(site, "trainer"),
        health=_health(site, "trainer"),
        memory_gigabytes=limits.memory_gigabytes,
        cpus=limits.cpus,
        gpus=around.gpus,
        hidden=tuple(shown(mounts, plan.hide)),
        groups=_groups(site, around),
        processes=TRAINER_PROCESSES,
    )


def _gate(site: Site, around: Surroundings) -> Wanted:
    plan = plan_of(site, "gate")
    # `paused` comes and goes in the folder of the state, so that is mounted, and what the gate may not see is not
    mounts = [
        *_read(site),
        mounted(site.state),
        mounted(site.approved),
        *(mounted(path, writable=True) for path in (site.gate, site.port, site.logs, site.lock)),
    ]
    covered = shown(mounts, plan.hide)
    proxy = f"http://{WAY}:{PORT}"
    return Wanted(
        name=name_of(site, "gate"),
        image=around.images["gate"],
        command=("part", str(site.path), "gate"),
        user=around.user,
        mounts=outermost([*mounts, *(Mount(NULL, path) for path in covered if not path.is_dir())]),
        networks=networks_of(site)[:1],
        environment={**_variables(site, around), "HTTPS_PROXY": proxy, "https_proxy": proxy, "grpc_proxy": proxy},
        labels=labels_of(site, "gate"),
        health=_health(site, "gate"),
        memory_gigabytes=GATE_GIGABYTES,
        dns=(NO_NAMES,),
        hidden=tuple(path for path in covered if path.is_dir()),
        processes=FEW_PROCESSES,
    )


def _way(site: Site, around: Surroundings) -> Wanted:
    inner, out = networks_of(site)
    proxies = {name: around.variable(name) or around.variable(name.lower()) for name in ("HTTPS_PROXY", "NO_PROXY")}
    return Wanted(
        name=name_of(site, "way"),
        image=around.images["gate"],
        command=("way", str(site.path)),
        user=around.user,
        mounts=(mounted(site.path),),
        networks=(inner, out),
        aliases=(WAY,),
        environment={**_variables(site, around), **(proxies if proxies["HTTPS_PROXY"] else {})},
        labels=labels_of(site, "way"),
        health=_health(site, "way"),
        memory_gigabytes=WAY_GIGABYTES,
        processes=FEW_PROCESSES,
    )


def once_of(site: Site, around: Surroundings, command: tuple[str, ...], written: tuple[Path, ...]) -> Wanted:
    """A container that runs one command of ours, without a network, and ends.

    What the command's arguments name is there, read-only. The images are read-only as well, unless their folder is
    among those that are `written`. New files are named from the first of these on, or from the site's folder.
    """
    own = (site.state, *written)
    arguments = tuple(_whole(argument) for argument in command[1:])
    named = [path for path in map(Path, arguments) if path.is_absolute() and path.exists()]
    trainer = _trainer(site, around)
    mounts = [
        *(mount for mount in trainer.mounts if not mount.target.is_relative_to(mounted(site.approved).target)),
        *(mounted(path) for path in named if not any(path.is_relative_to(os.path.realpath(place)) for place in own)),
        *(mounted(path, writable=True) for path in own),
    ]
    return replace(
        trainer,
        name=name_of(site, f"once-{os.getpid()}"),
        command=(command[0], *arguments),
        environment={**trainer.environment, "COLUMNS": around.variable("COLUMNS") or "120"},
        mounts=outermost(mounts),
        labels=labels_of(site, "once"),
        health=(),
        hidden=(),
        folder=mounted((written or (site.path.parent,))[0]).target,
        restart=False,
    )


def _whole(argument: str) -> str:
    """An argument that names a file or folder that is there, as its whole path."""
    return str(Path(argument).resolve()) if not argument.startswith("-") and Path(argument).exists() else argument


def _vault_files(site: Site) -> tuple[Path, ...]:
    """What opens the vault: the files that site.toml names, as far as they lie outside of the trainer's folder."""
    names = (site.file.vault.key, site.file.vault.passphrase)
    paths = (site.path.parent / os.path.expandvars(name) for name in names if name)
    return tuple(path for path in paths if not path.resolve().is_relative_to(site.trainer.resolve()))


def _groups(site: Site, around: Surroundings) -> tuple[int, ...]:
    """The group of the images, where the containers' user is a member of it besides their own."""
    user, group = map(int, around.user.split(":"))
    try:
        groups = os.getgrouplist(pwd.getpwuid(user).pw_name, group)
    except KeyError:
        return ()
    owning = site.root.stat().st_gid
    return (owning,) if owning in groups and owning not in {0, group} else ()


def _read(site: Site) -> list[Mount]:
    """What both parts read: the site's file, the hub's authority, the local time of the policy's hours."""
    return [mounted(site.path), mounted(site.ca), *([mounted(CLOCK)] if CLOCK.exists() else [])]


def _health(site: Site, part: str) -> tuple[str, ...]:
    return "python", "-m", "polyward_client.health", str(site.state), part
