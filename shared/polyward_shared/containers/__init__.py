"""Containers of ours in the machine's Docker engine: what is wanted, whether the engine made just that, and renewal."""

from __future__ import annotations

from polyward_shared.containers.engine import Engine, connect, image_named, network_of, owner_of
from polyward_shared.containers.inspection import differences
from polyward_shared.containers.lines import instant, logs, tail
from polyward_shared.containers.making import (
    discard,
    found,
    is_healthy,
    make,
    make_all,
    start,
    take_down,
    wait_until_healthy,
)
from polyward_shared.containers.renewal import renew, settle, stands
from polyward_shared.containers.wanted import CLOCK, DIGEST, LABEL, PART_LABEL, Mount, Wanted

__all__ = [
    "CLOCK",
    "DIGEST",
    "LABEL",
    "PART_LABEL",
    "Engine",
    "Mount",
    "Wanted",
    "connect",
    "differences",
    "discard",
    "found",
    "image_named",
    "instant",
    "is_healthy",
    "logs",
    "make",
    "make_all",
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
