"""What a container of ours shall be. All of them have a read-only root, no capability and no way to new privileges."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

LABEL = "org.polyward"  # of what is ours: .site, .hub, .part
PART_LABEL = f"{LABEL}.part"
DIGEST = f"{LABEL}.wanted"  # what a container was made for
STOP_SECONDS = 20  # from SIGTERM to SIGKILL: the trainer ends its batch within 15
CLOCK = Path("/etc/localtime")  # so that hours are this machine's inside as well
TMP = "/tmp"  # noqa: S108  # the container's own, in memory
TMP_OPTIONS = "rw,nosuid,nodev,noexec,size=256m,mode=1777"
HIDDEN_OPTIONS = "ro,nosuid,nodev,noexec,size=4k,mode=0555"  # an empty folder over what a mount would show


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of this machine, and where it is in the container; read-only unless said."""

    source: Path
    target: Path
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """One container.

    `user` is `uid:gid`. Without `networks` it has no network at all; it is known by `aliases` in the first.
    `ports`: the container's port -> (address of this machine, its port). `hidden` are folders that stay empty inside.
    `gpus`: none, `all`, or numbers with commas. `health` is a command that ends with 0 when all is well.
    """

    name: str
    image: str
    command: tuple[str, ...]
    user: str
    mounts: tuple[Mount, ...]
    networks: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    ports: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    health: tuple[str, ...] = ()
    memory_gigabytes: float | None = None
    cpus: float | None = None
    gpus: str = ""
    dns: tuple[str, ...] = ()
    hidden: tuple[Path, ...] = ()
    folder: Path | None = None  # that the command works in
    groups: tuple[int, ...] = ()  # besides the user's
    processes: int = 1024
    restart: bool = True  # when it ends by itself, and when the engine starts again

    @property
    def digest(self) -> str:
        """Of all of this: two containers with the same one were made for the same."""
        return hashlib.sha256(json.dumps(asdict(self), default=str, sort_keys=True).encode()).hexdigest()

    @property
    def tmpfs(self) -> dict[str, str]:
        return {TMP: TMP_OPTIONS} | {str(path): HIDDEN_OPTIONS for path in self.hidden}

    @property
    def memory_bytes(self) -> int:
        """0: as much as there is."""
        return round((self.memory_gigabytes or 0) * 2**30)

    @property
    def gpu_request(self) -> dict[str, Any] | None:
        """What is asked of the engine about GPUs."""
        if not self.gpus:
            return None
        every = self.gpus == "all"
        return {
            "Driver": "",
            "Count": -1 if every else 0,
            "DeviceIDs": [] if every else self.gpus.split(","),
            "Capabilities": [["gpu"]],
            "Options": {},
        }
