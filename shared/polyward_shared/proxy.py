"""Keeping loopback traffic away from a proxy that the environment names."""

from __future__ import annotations

import os


def spare_loopback_the_proxy() -> None:
    """Add loopback to NO_PROXY: a proxy in the environment would otherwise be asked to reach this machine."""
    spared = {entry for entry in os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")).split(",") if entry}
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(sorted(spared | {"127.0.0.1", "localhost"}))
