"""Every engine runs the same study to the same bytes, through the command line, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from polyward_server.ledger import Ledger
from polyward_shared.study import Study
from tests.federation.small import simulated_encoders, small_study

pytestmark = pytest.mark.slow

NO_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def run_sim(folder: Path, study: Study, engine: str, *, before: tuple[str, ...] = ()) -> list[str]:
    """The encoders after each round, from the ledger that the engine left."""
    file = folder / "data" / "study.toml"
    file.write_text(tomli_w.dumps(study.model_dump(mode="json", exclude_none=True)))
    command = [*before, sys.executable, "-m", "polyward_deploy", "run", str(file), "--no-compare"]
    command += ["--engine", engine, "--out", str(folder / engine)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Test figures at the end" in done.stdout
    where = {"ray": "ledger.db", "processes": "hub/ledger.db"}[engine]
    ledger = Ledger(folder / engine / "federated" / where)
    return [committed.encoder for committed in ledger.rounds(study.digest())]


@pytest.mark.whole
def test_ray_gives_the_same_bytes(tmp_path: Path) -> None:
    study, sites = small_study(tmp_path / "data", rounds=2, hospitals=2)
    assert run_sim(tmp_path, study, "ray") == simulated_encoders(study, sites, tmp_path / "simulated")


def test_real_processes_need_no_network_beyond_loopback(tmp_path: Path) -> None:
    """In a network namespace that has nothing but a loopback: nothing is fetched, nobody is called."""
    assert os.geteuid() == 0, "a network namespace needs root"
    assert shutil.which("unshare"), "util-linux's unshare is needed"
    assert shutil.which("ip"), "iproute2 is needed"
    study, sites = small_study(tmp_path / "data", rounds=2, hospitals=2)
    encoders = run_sim(tmp_path, study, "processes", before=tuple(NO_NETWORK))
    assert encoders == simulated_encoders(study, sites, tmp_path / "simulated")
