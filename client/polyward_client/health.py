"""Whether a part does well, for the engine that keeps its container: `python -m polyward_client.health STATE PART`.

It is asked every few seconds, so it imports nothing but the standard library. Exit code 0 or 1.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

FRESH_SECONDS = 20.0  # the gate says each second how it is
ANSWER_SECONDS = 3.0
WAY_PORT = 3128


def does_well(state: Path, part: str) -> bool:
    """The gate if it is online at the hub, paused or not; the trainer if it takes calls; the way if it refuses."""
    match part:
        case "gate":
            return _gate_is_online(state / "gate" / "status.json")
        case "trainer":
            return _trainer_listens(state / "port")
        case _:
            return _way_refuses()


def _gate_is_online(status: Path) -> bool:
    try:
        said = json.loads(status.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    fresh: bool = abs(time.time() - said.get("at", 0)) < FRESH_SECONDS
    return fresh and said.get("link") == "online"


def _trainer_listens(port: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(ANSWER_SECONDS)
        try:
            os.chdir(port)  # a Unix socket's path must be short
            probe.connect("trainer.sock")
        except OSError:
            return False
    return True


def _way_refuses() -> bool:
    """As it does whatever is not the hub. A connection without a word would be an error in its log."""
    try:
        with socket.create_connection(("127.0.0.1", WAY_PORT), ANSWER_SECONDS) as probe:
            probe.sendall(b"CONNECT nobody:1 HTTP/1.0\r\n\r\n")
            with probe.makefile("rb") as answer:  # to its end: what is left unread is an error as well
                return answer.read().startswith((b"HTTP/1.0 403", b"HTTP/1.1 403"))
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if does_well(Path(sys.argv[1]), sys.argv[2]) else 1)
