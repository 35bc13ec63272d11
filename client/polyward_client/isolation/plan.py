"""What a part of the node may see and take."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

SYSTEM_SOCKETS = "/run"  # of Docker, D-Bus and others, who would act for whoever asks


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
