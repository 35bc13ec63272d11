"""The site's own file, `site.toml`, and the folder that holds everything that the site keeps.

The folder has a part for each of the node's two processes, so that each may be another user of the machine, and a part
where they meet:

    approved/   the studies that may run here; people write it, both processes read it
    gate/       node key and certificate, what was sent, status
    trainer/    vault, journal of training, disk cache
    port/       the trainer's socket, and the spool through which arrays pass
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from polyward_shared.encoders import DottedPath
from polyward_shared.invitation import Address
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen, formed, read_toml
from polyward_shared.study import Name
from polyward_shared.tasks import TaskName
from polyward_shared.topologies import Topology

Hours = Annotated[str, formed(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", "hours such as 22:00-06:00")]
ONLY_GPU = "POLYWARD_ONLY_GPU"  # environment of a trainer's container with one GPU of several: its name in there
HubCommand = Literal["wake", "cancel"]


class Data(Frozen):
    """Where the images are. `root` may contain environment variables, such as `${IMAGES}`."""

    root: str = "data"  # relative to the site's file
    manifest: str = "manifest.csv"  # relative to root
    rows: dict[str, str] = Field(default_factory=dict)  # use only rows with these values, such as {site = "a"}
    columns: dict[TaskName, str] = Field(default_factory=dict)  # where the manifest names a task otherwise
    partial: dict[TaskName, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )  # the classes that masks show, if not all


class Device(Frozen):
    """What trains. One thread is the default because results depend, in the last bits, on the number of threads."""

    kind: Annotated[str, formed(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda, or cuda: and a number")] = "auto"
    threads: int = Field(default=1, ge=1, le=256)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    cache: Literal["memory", "disk"] = "memory"  # where images in the study's form are kept while it trains


class Policy(Frozen):
    """What the site allows, whatever a study says."""

    minimum_count: int = Field(default=5, ge=1)  # a figure that rests on fewer cases stays here
    minimum_train: int = Field(default=5, ge=1)  # labelled training images that a task needs to take part
    # for each task, at the end: the model that does better on the validation split, or always the one of this name
    keeps: Literal["better", "federated", "alone"] = "better"
    encoders: tuple[DottedPath, ...] = ()  # installed here and allowed to run, besides polyward's own
    minimum_sites: int = Field(default=2, ge=1)  # that a study's quorum must ask for
    hours: tuple[Hours, ...] = ()  # local times at which orders are worked on; none: at all times
    gpu_gigabytes: float | None = Field(default=None, gt=0)  # the most of the GPU's memory that the trainer may take
    gpu_hours: float | None = Field(default=None, gt=0)  # the most time that one study may train here
    epsilon: float | None = Field(default=None, gt=0)  # the largest privacy loss that a study may promise to keep to
    commands: tuple[HubCommand, ...] = ("wake", "cancel")  # of the hub's, that are obeyed


class Keeping(Frozen):
    """How the vault keeps what the site trained. Without a key or a passphrase it is not encrypted."""

    key: str = ""  # the file with the vault's key, relative to the site's file
    passphrase: str = ""  # the file with a passphrase instead
    rounds: int = Field(default=3, ge=1, le=1000)  # of each study; older ones go
    gigabytes: float | None = Field(default=None, gt=0)  # the most that all studies together may take


class Isolation(Frozen):
    """What the operating system holds the two processes to.

    `off` is for machines that cannot, and is said aloud at every start. With two names, a node that root starts runs
    its processes as those users.
    """

    require: bool = True
    gate_user: str = ""
    trainer_user: str = ""


class Limits(Frozen):
    """What the node may take of the machine, and write into its log."""

    memory_gigabytes: float | None = Field(default=None, gt=0)  # of the trainer
    cpus: float | None = Field(default=None, gt=0)  # of the trainer in a container, where 1.5 is one and a half
    nice: int = Field(default=0, ge=0, le=19)  # of the trainer
    log_megabytes: int = Field(default=10, ge=1, le=1000)  # of one log file
    log_files: int = Field(default=5, ge=1, le=100)
    health_port: int = Field(default=0, ge=0, le=65535)  # on the loopback; 0: no health endpoint


class HubAddress(Frozen):
    """Where the hub listens, and the certificate that proves it is the hub."""

    address: Address
    control: Address | None = None  # the control plane; without one there is none
    ca: str = "ca.pem"  # relative to the site's file


class SiteFile(Frozen):
    """`site.toml` as written."""

    name: Name
    tasks: tuple[TaskName, ...] = ()  # none yet: the node can be online, and no study can be approved
    state: str = ""  # the folder that the site keeps; `<name>.state` beside the file when empty
    data: Data = Data()
    device: Device = Device()
    policy: Policy = Policy()
    vault: Keeping = Keeping()
    isolation: Isolation = Isolation()
    limits: Limits = Limits()
    topology: Topology | None = None  # the site's own, in place of the study's
    hub: HubAddress | None = None


class Site:
    """A site with its paths resolved."""

    def __init__(self, path: Path, file: SiteFile, state: Path | None = None) -> None:
        self.path = path.resolve()
        self.file = file
        folder = self.path.parent
        stated = folder / _expanded(file.state, self.path, "state") if file.state else folder / f"{file.name}.state"
        self.state = state.resolve() if state else _without_steps_up(stated)
        self.root = _without_steps_up(folder / _expanded(file.data.root, self.path, "data.root"))
        self.manifest = _without_steps_up(self.root / file.data.manifest)
        self.ca = _without_steps_up(folder / (file.hub.ca if file.hub else "ca.pem"))
        self.approved = self.state / "approved"
        self.paused = self.state / "paused"  # while this file exists, no order is worked on
        self.lock = self.state / "run.lock"
        self.logs = self.state / "logs"
        self.gate = self.state / "gate"
        self.key = self.gate / "node.key"
        self.certificate = self.gate / "node.pem"
        self.sent = self.gate / "sent.jsonl"
        self.checkpoints = self.gate / "checkpoints.jsonl"
        self.status = self.gate / "status.json"
        self.trainer = self.state / "trainer"
        self.vault = self.trainer / "vault"
        self.journal = self.trainer / "training"
        self.cache = self.trainer / "cache"
        self.port = self.state / "port"
        self.socket = self.port / "trainer.sock"
        self.spool = self.port / "spool"

    @property
    def name(self) -> str:
        return self.file.name


def read_site(path: Path, *, state: Path | None = None) -> Site:
    """The site of a `site.toml`, keeping its state elsewhere if `state` is given. Raises `Problem`."""
    file = read_toml(path, SiteFile)
    if len(set(file.tasks)) != len(file.tasks):
        raise Problem(str(path), f"tasks: found {list(file.tasks)}", expected="each task once", remedy="remove one")
    _check_named(path, file, "columns", list(file.data.columns))
    _check_named(path, file, "partial", list(file.data.partial))
    return Site(path, file, state)


def _check_named(path: Path, file: SiteFile, key: str, tasks: list[str]) -> None:
    if unknown := [task for task in tasks if task not in file.tasks]:
        raise Problem(
            str(path),
            f"data.{key}: found {', '.join(unknown)}",
            expected=f"tasks of this site: {', '.join(file.tasks)}",
            remedy="correct the task's name, or add it to tasks",
        )


def _without_steps_up(path: Path) -> Path:
    """In a container the folder that a path steps up from may not be there."""
    return path.resolve() if ".." in path.parts else path


def _expanded(text: str, where: Path, key: str) -> str:
    expanded = os.path.expandvars(os.path.expanduser(text))
    if unset := re.search(r"\$\{?(\w+)", expanded):
        raise Problem(
            str(where),
            f"{key}: found {text!r}, but the environment variable {unset[1]} is not set",
            remedy=f"export {unset[1]}=... or write the path itself",
        )
    return expanded
