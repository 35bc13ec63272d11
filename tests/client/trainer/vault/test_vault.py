"""What stays is whole, private, and never silently replaced by something older."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyward_client.trainer.vault import Vault, new_vault_key, side_by_side, taken_apart
from polyward_client.trainer.vault.keys import read_keys
from polyward_client.trainer.vault.seal import is_sealed
from polyward_client.trainer.vault.vault import studies_in, used
from polyward_shared.problems import Code, Problem, Refused
from polyward_shared.states import Arrays, read_state

STUDY = "5" * 64


def keep(vault: Vault, round: int) -> None:
    arrays = {"branches.a.weight": np.full(3, round, np.float32)}
    vault.keep(arrays, round=round, state_digest=f"{round:064}", tasks=("a",))


def sealed_vault(folder: Path, **options: Any) -> Vault:
    if not (folder / "vault.key").exists():
        new_vault_key(folder / "vault.key")
    return Vault(folder / "vault", STUDY, ring=read_keys(folder / "vault.key"), **options)


@pytest.fixture(params=["plain", "sealed"])
def vault(tmp_path: Path, request: pytest.FixtureRequest) -> Vault:
    return Vault(tmp_path / "vault", STUDY) if request.param == "plain" else sealed_vault(tmp_path)


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
    with pytest.raises(Problem, match=r"damaged|is sealed with another key|another version") as caught:
        vault.arrays(vault.entry(path))
    assert "what to do: " in str(caught.value)
    path.unlink()
    older = vault.latest_before(3)
    assert older is not None
    assert older.round == 1


def test_an_entry_of_another_study_is_refused(vault: Vault, tmp_path: Path) -> None:
    keep(vault, 1)
    other = Vault(tmp_path / "vault", "6" * 64, ring=vault.ring)
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


def test_a_plain_vault_is_read_after_it_was_given_a_key_and_what_is_new_is_sealed(tmp_path: Path) -> None:
    keep(Vault(tmp_path / "vault", STUDY), 1)
    vault = sealed_vault(tmp_path)
    keep(vault, 2)
    assert [is_sealed(path) for path in vault.files()] == [False, True]
    for number in (1, 2):
        entry = vault.at(number)
        assert entry is not None
        assert vault.arrays(entry)["branches.a.weight"].tolist() == [number] * 3


def test_nothing_personal_lies_open_with_a_key_not_even_a_draft(tmp_path: Path) -> None:
    vault = sealed_vault(tmp_path)
    secret = np.arange(1000, dtype=np.float32)
    vault.folder.mkdir(parents=True)
    (vault.folder / ".round-000001.safetensors.x1y2").write_bytes(secret.tobytes())  # of a time without a key
    vault.keep({"branches.a.weight": secret}, round=1, state_digest="s", tasks=("lesion",))
    found = b"".join(path.read_bytes() for path in vault.folder.parent.rglob("*") if path.is_file())
    assert len(found) > secret.nbytes
    assert not any(text in found for text in (b"branches", b"lesion", secret[:8].tobytes()))
    assert [path.name for path in vault.folder.iterdir()] == ["round-000001.safetensors"]


def test_what_is_sealed_is_a_state_file(tmp_path: Path) -> None:
    """Byte for byte one that other tools read."""
    vault = Vault(tmp_path / "vault", STUDY)
    keep(vault, 1)
    [path] = vault.files()
    assert read_state(path)["branches.a.weight"].tolist() == [1, 1, 1]


def test_one_round_to_be_kept_means_two(tmp_path: Path) -> None:
    """A round that was not acknowledged is trained again from the one before, so that one must be there."""
    vault = Vault(tmp_path / "vault", STUDY, rounds=1)
    for number in (1, 2, 3):
        keep(vault, number)
    assert vault.kept_rounds() == [2, 3]


def test_the_oldest_rounds_go_first_when_the_vault_is_full_and_then_nothing_is_written(tmp_path: Path) -> None:
    size = 4_000

    def write(vault: Vault, round: int) -> None:
        vault.keep({"x": np.zeros(size // 4, np.float32)}, round=round, state_digest="", tasks=("a",))

    roomy = Vault(tmp_path / "vault", STUDY, rounds=5)
    for number in range(1, 6):
        write(roomy, number)
    one = roomy.files()[0].stat().st_size
    tight = Vault(tmp_path / "vault", STUDY, rounds=3, limit=5.5 * one)
    write(tight, 6)
    assert tight.kept_rounds() == [4, 5, 6]
    full = Vault(tmp_path / "vault", STUDY, rounds=3, limit=2.5 * one)
    before = {path: path.read_bytes() for path in full.files()}
    with pytest.raises(Refused, match="gigabytes allows") as caught:
        write(full, 7)
    assert caught.value.code is Code.DISK
    after = {path: path.read_bytes() for path in full.files()}
    assert list(after) == list(before)[1:]  # the one that would have gone anyway
    write(full, 6)  # a repetition takes the place of the round that is there


@settings(max_examples=40, deadline=None)
@given(
    limit=st.integers(500, 8000),
    steps=st.lists(st.tuples(st.sampled_from("56"), st.integers(1, 300)), min_size=1, max_size=12),
)
def test_the_limit_is_never_exceeded_and_the_last_round_of_each_study_stays(
    tmp_path_factory: pytest.TempPathFactory, limit: int, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("quota") / "vault"
    newest: dict[str, int] = {}
    for number, (digit, size) in enumerate(steps, start=1):
        vault = Vault(folder, digit * 64, rounds=2, limit=limit)
        with suppress(Refused):
            vault.keep({"x": np.zeros(size, np.float32)}, round=number, state_digest="", tasks=("a",))
            newest[vault.study] = number
        assert used(folder) <= limit
    assert {study: Vault(folder, study).kept_rounds()[-1] for study in studies_in(folder)} == newest
