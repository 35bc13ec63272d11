"""What the hub may know of this machine: processors, memory, disk and GPUs, as numbers."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from polyward_shared.protos import control_pb2 as pb

GPU_SECONDS = 10.0  # between looks at the GPUs: each starts a process
QUERY = "--query-gpu=name,memory.used,memory.total,utilization.gpu"
NO_MODEL = re.compile(r"[^A-Za-z0-9 ._()/\-]")


@dataclass
class Machine:
    """Looks at the machine when asked; `folder` says which disk matters."""

    folder: Path
    _gpus: tuple[float, list[pb.Gpu]] = (float("-inf"), [])

    def now(self) -> pb.Machine:
        """How it stands. Without NVIDIA's tool there are no GPUs to tell of."""
        if time.monotonic() - self._gpus[0] > GPU_SECONDS:
            self._gpus = (time.monotonic(), gpus())
        memory = psutil.virtual_memory()
        return pb.Machine(
            cpu=psutil.cpu_percent() / 100,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            disk_free=shutil.disk_usage(self.folder).free,
            gpus=self._gpus[1],
        )


def gpus() -> list[pb.Gpu]:
    """The machine's NVIDIA GPUs, none where the tool is absent or fails."""
    try:
        done = subprocess.run(
            ["nvidia-smi", QUERY, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return gpus_of(done.stdout)


def gpus_of(listing: str) -> list[pb.Gpu]:
    """The GPUs of nvidia-smi's lines `name, MiB used, MiB in all, percent busy`; other lines are skipped."""
    found = []
    for line in listing.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        try:
            model, used, total, busy = cells[0], int(cells[1]), int(cells[2]), float(cells[3])
        except (IndexError, ValueError):
            continue
        found.append(
            pb.Gpu(
                model=NO_MODEL.sub("", model)[:60], memory_used=used << 20, memory_total=total << 20, busy=busy / 100
            )
        )
    return found
