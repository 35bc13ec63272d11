"""Whether a part does well, as the engine asks it: a process, its exit code, and nothing slow on the way."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from polyward_client.health import FRESH_SECONDS, does_well


def status(state: Path, link: str, ago: float = 0.0) -> Path:
    (state / "gate").mkdir(parents=True, exist_ok=True)
    (state / "gate" / "status.json").write_text(json.dumps({"link": link, "at": time.time() - ago}))
    return state


def test_the_gate_is_well_while_it_says_that_it_is_online(tmp_path: Path) -> None:
    assert not does_well(tmp_path, "gate")
    assert does_well(status(tmp_path, "online"), "gate")
    assert not does_well(status(tmp_path, "online", FRESH_SECONDS + 1), "gate")
    assert not does_well(status(tmp_path, "unreachable"), "gate")
    (tmp_path / "gate" / "status.json").write_text("{")
    assert not does_well(tmp_path, "gate")


def test_the_trainer_is_well_while_it_takes_calls(tmp_path: Path) -> None:
    ask = [sys.executable, "-X", "importtime", "-m", "polyward_client.health", str(tmp_path), "trainer"]
    (tmp_path / "port").mkdir()
    assert subprocess.run(ask, capture_output=True, check=False).returncode == 1
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "port" / "trainer.sock"))
        server.listen()
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert not any(slow in done.stderr for slow in ("pydantic", "typer", "cryptography", "torch"))
