"""Containers of ours in the machine's Docker engine: what is wanted, whether the engine made just that, and renewal."""

from __future__ import annotations

from polyward_shared.containers.engine import Engine, connect, image_named, network_of, owner_of
from polyward_shared.containers.inspection import differences
from polyward_shared.containers.lines import instant, logs, tail
from polyward_shared.containers.making import found, is_healthy, make, start, take_down, wait_until_healthy
from polyward_shared.containers.renewal import renew, settle, stands
from polyward_shared.containers.wanted import DIGEST, Mount, Wanted

__all__ = [
    "DIGEST",
    "Engine",
    "Mount",
    "Wanted",
    "connect",
    "differences",
    "found",
    "image_named",
    "instant",
    "is_healthy",
    "logs",
    "make",
    "network_of",
    "owner_of",
    "renew",
    "settle",
    "stands",
    "start",
    "tail",
    "take_down",
    "wait_until_healthy",
]
