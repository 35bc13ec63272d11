"""Processes that die by SIGKILL at a chosen rename: the one effect by which anything in a vault begins to count."""

from __future__ import annotations

import signal
import subprocess
import sys

DYING = """
import os, signal, sys
rename, left, when = os.replace, [int(sys.argv[1])], sys.argv[2]

def deadly(*args, **kwargs):
    left[0] -= 1
    if left[0] == 0 and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*args, **kwargs)
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = os.rename = deadly
from polyward_client.cli import main
sys.argv = ["polyward-node", *sys.argv[3:]]
main()
"""


def dies(number: int, when: str, *arguments: object) -> bool:
    """Runs `polyward-node` with these arguments until its rename of this number; whether it came to that."""
    script = [sys.executable, "-c", DYING, str(number), when, *map(str, arguments)]
    done = subprocess.run(script, check=False, capture_output=True, text=True)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode == -signal.SIGKILL
