"""The machine on which figures were taken, without anything that names it or its user."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = ("flwr", "numpy", "torch", "monai", "grpcio", "ray")


def description() -> dict[str, str]:
    """Cores, memory, processor, kernel and versions: what a reader needs to judge a figure in seconds."""
    return {
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "processor": _processor(),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",  # the rest names a build
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def load() -> float:
    """The 1-minute load average: figures from a busy machine say little."""
    return os.getloadavg()[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
