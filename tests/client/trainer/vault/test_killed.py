"""A process that keeps rounds is killed at any moment: what it had said to be kept is there, whole."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from polyward_client.trainer.vault import Vault, new_vault_key
from polyward_client.trainer.vault.keys import read_keys

STUDY = "5" * 64
KEEPING = """
import sys
from pathlib import Path
import numpy as np
from polyward_client.trainer.vault import Vault
from polyward_client.trainer.vault.keys import read_keys

folder, study, begin = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ring = read_keys(folder / "vault.key") if (folder / "vault.key").exists() else None
vault = Vault(folder / "vault", study, ring=ring)
for round in range(begin, 100_000):
    arrays = {"x": np.full(300_000, round, np.float32)}
    vault.keep(arrays, round=round, state_digest="", tasks=("a",))
    print(round, flush=True)
"""


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_what_was_acknowledged_is_there(tmp_path: Path, sealed: bool) -> None:
    if sealed:
        new_vault_key(tmp_path / "vault.key")
    vault = Vault(tmp_path / "vault", STUDY, ring=read_keys(tmp_path / "vault.key") if sealed else None)
    acknowledged = 0
    for moment in np.random.default_rng(int(sealed)).uniform(0.0, 0.05, 6):
        script = [sys.executable, "-c", KEEPING, str(tmp_path), STUDY, str(acknowledged + 1)]
        with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(moment)
            process.kill()
            acknowledged = int((first + process.stdout.read()).split()[-1])
        entry = vault.latest_before(100_000)
        assert entry is not None
        assert entry.round in {acknowledged, acknowledged + 1}  # the last may be whole without being told
        assert set(vault.arrays(entry)["x"].tolist()) == {entry.round}
        before = vault.latest_before(acknowledged + 1)
        assert before is not None
        assert before.round == acknowledged
        assert vault.arrays(before)["x"][0] == acknowledged
    assert acknowledged > 6
    assert len(vault.kept_rounds()) <= vault.rounds + 1
