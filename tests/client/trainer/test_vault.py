"""What stays is whole, private, and never silently replaced by something older."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyward_client.trainer.vault import Entry, Vault, side_by_side, taken_apart
from polyward_shared.problems import Problem
from polyward_shared.states import Arrays

STUDY = "5" * 64


def keep(vault: Vault, round: int) -> None:
    arrays = {"branches.a.weight": np.full(3, round, np.float32)}
    vault.keep(arrays, round=round, state_digest=f"{round:064}", tasks=("a",))


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", STUDY)


def test_the_latest_before_a_round(vault: Vault) -> None:
    assert vault.latest_before(1) is None
    for number in (1, 2, 3):
        keep(vault, number)
    entry = vault.latest_before(3)
    assert entry is not None
    assert (entry.round, entry.state_digest) == (2, f"{2:064}")
    assert vault.arrays(entry)["branches.a.weight"].tolist() == [2, 2, 2]
    assert vault.latest_before(1) is None


def test_three_rounds_and_the_final_are_kept(vault: Vault) -> None:
    vault.keep_final({"x": np.ones(1, np.float32)}, round=1, state_digest="", tasks=("a",), kept={"a": "alone"})
    for number in range(1, 6):
        keep(vault, number)
    names = sorted(path.name for path in vault.folder.iterdir())
    assert names == ["final.safetensors", *(f"round-{number:06}.safetensors" for number in (3, 4, 5))]
    final = vault.final()
    assert final is not None
    assert vault.arrays(final)["x"].tolist() == [1]
    assert final.kept == {"a": "alone"}


def test_repeating_an_old_round_removes_nothing_newer(vault: Vault) -> None:
    for number in (1, 2, 3):
        keep(vault, number)
    keep(vault, 2)
    entry = vault.latest_before(9)
    assert entry is not None
    assert entry.round == 3


def test_files_and_folders_are_the_owners_alone(vault: Vault) -> None:
    keep(vault, 1)
    entry = vault.latest_before(2)
    assert entry is not None
    assert entry.path.stat().st_mode & 0o777 == 0o600
    assert vault.folder.stat().st_mode & 0o777 == vault.folder.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("place", [0, 40, -1], ids=["length", "header", "values"])
def test_a_damaged_file_is_a_problem_and_the_older_one_needs_a_decision(vault: Vault, place: int) -> None:
    keep(vault, 1)
    keep(vault, 2)
    path = vault.folder / "round-000002.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(Problem, match="damaged") as caught:
        vault.arrays(Entry(path, 2, "") if vault.latest_before(3) else Entry(path, 0, ""))
    assert "move it away to go on from the round before" in str(caught.value)
    path.unlink()
    older = vault.latest_before(3)
    assert older is not None
    assert older.round == 1


def test_an_entry_of_another_study_is_refused(vault: Vault, tmp_path: Path) -> None:
    keep(vault, 1)
    other = Vault(tmp_path / "vault", "6" * 64)
    other.folder.mkdir()
    (vault.folder / "round-000001.safetensors").rename(other.folder / "round-000001.safetensors")
    with pytest.raises(Problem, match="another study"):
        other.latest_before(2)


def test_models_lie_side_by_side_and_are_taken_apart() -> None:
    def one(value: float) -> Arrays:
        return {"encoder.w": np.full(2, value, np.float32), "branches.alone.w": np.full(1, value, np.float32)}

    models = {"federated": one(1), "alone": one(2), "ditto": one(3), "previous": {"encoder.w": np.zeros(2, np.float32)}}
    together = side_by_side(models)
    assert {"encoder.w", "branches.alone.w", "alone.encoder.w", "previous.encoder.w"} <= set(together)
    again = taken_apart(together)
    assert again.keys() == models.keys()
    assert all(np.array_equal(again[m][n], array) for m, arrays in models.items() for n, array in arrays.items())
    assert [len(again[model]) for model in models] == [2, 2, 2, 1]
