"""Going back is a person's decision, loses nothing, and can be undone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyward_client.site import Site
from polyward_client.trainer.vault import Vault, new_vault_key, open_vault
from polyward_client.trainer.vault.rollback import roll_back, undo
from polyward_shared.problems import Problem
from tests.client.trainer.vault.dying import dies
from tests.client.trainer.vault.test_rotate import make_site

STUDY = "5" * 64


def keep(vault: Vault, round: int, value: float) -> None:
    vault.keep({"x": np.full(3, value, np.float32)}, round=round, state_digest="", tasks=("a",))


def begins_with(vault: Vault, round: int) -> float:
    """What the order of this round is worked on from."""
    entry = vault.latest_before(round)
    assert entry is not None
    return float(vault.arrays(entry)["x"][0])


def everything(vault: Vault) -> list[float]:
    return sorted(float(vault.arrays(vault.entry(path))["x"][0]) for path in vault.files())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    new_vault_key(tmp_path / "site" / "vault.key")
    return make_site(tmp_path / "site")


@pytest.fixture
def vault(site: Site) -> Vault:
    vault = open_vault(site, STUDY)
    for round in (3, 4, 5):
        keep(vault, round, round)
    vault.keep_final({"x": np.full(3, 5.5, np.float32)}, round=5, state_digest="", tasks=("a",), kept={})
    return vault


def test_the_next_round_begins_with_the_branches_of_that_round(vault: Vault) -> None:
    assert begins_with(vault, 6) == 5
    assert roll_back(vault, 3) == ["round-000004.safetensors", "round-000005.safetensors", "final.safetensors"]
    assert begins_with(vault, 6) == 3
    assert vault.final() is None
    assert everything(vault) == [3, 4, 5, 5.5]


def test_undone_it_is_as_before(vault: Vault) -> None:
    roll_back(vault, 3)
    assert undo(vault) == (3, ["final.safetensors", "round-000004.safetensors", "round-000005.safetensors"], [])
    assert begins_with(vault, 6) == 5
    assert vault.final() is not None
    with pytest.raises(Problem, match="nothing was set aside"):
        undo(vault)
    assert [path.name for path in vault.folder.iterdir() if path.is_dir()] in ([], ["aside"])


def test_undone_after_other_rounds_were_trained_both_ways_stay(vault: Vault) -> None:
    roll_back(vault, 4)
    keep(vault, 5, 50)
    keep(vault, 6, 60)
    assert begins_with(vault, 7) == 60
    round, back, newer = undo(vault)
    assert (round, back) == (4, ["final.safetensors", "round-000005.safetensors"])
    assert newer == ["round-000005.safetensors", "round-000006.safetensors"]
    assert begins_with(vault, 7) == 5
    undo(vault)  # of the undoing
    assert begins_with(vault, 7) == 60
    assert {5, 5.5, 50, 60} <= set(everything(vault))


def test_twice_back_and_twice_undone(vault: Vault) -> None:
    roll_back(vault, 4)
    roll_back(vault, 3)
    undo(vault)
    assert begins_with(vault, 6) == 4
    undo(vault)
    assert begins_with(vault, 6) == 5


def test_a_damaged_newer_round_does_not_stand_in_the_way_a_damaged_target_does(vault: Vault) -> None:
    for number in (5, 3):
        path = vault.round_path(number)
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Problem, match="damaged"):
        begins_with(vault, 6)
    with pytest.raises(Problem, match="damaged"):
        roll_back(vault, 3)
    roll_back(vault, 4)
    assert begins_with(vault, 6) == 4


def test_only_to_a_round_that_is_there_and_older(vault: Vault) -> None:
    with pytest.raises(Problem, match=r"round 2 is not kept; expected one of 3, 4, 5"):
        roll_back(vault, 2)
    with pytest.raises(Problem, match="round 5 is the newest already"):
        roll_back(vault, 5)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_killed_at_any_rename_it_was_done_or_it_was_not(site: Site, vault: Vault, number: int, when: str) -> None:
    """The renames: what is to be moved, then the three files."""
    assert dies(number, when, "vault", "rollback", site.path, STUDY, "3")
    assert begins_with(vault, 6) == (5 if (number, when) == (1, "before") else 3)
    assert everything(vault) == [3, 4, 5, 5.5]
    assert not (vault.folder / "moves.json").exists()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 3, 5])
def test_killed_while_it_is_undone(site: Site, vault: Vault, number: int, when: str) -> None:
    roll_back(vault, 3)
    keep(vault, 4, 40)
    assert dies(number, when, "vault", "rollback", site.path, STUDY, "--undo")
    assert begins_with(vault, 6) == (40 if (number, when) == (1, "before") else 5)
    assert everything(vault) == [3, 4, 5, 5.5, 40]


@pytest.mark.parametrize(
    "moves", ['[["../../secret", "final.safetensors"]]', '[["final.safetensors", "/etc/x"]]', "{", "1"]
)
def test_who_may_write_into_the_vault_moves_nothing_outside_of_it(vault: Vault, moves: str) -> None:
    (vault.folder.parent.parent / "secret").write_text("of an administrator")
    (vault.folder / "moves.json").write_text(moves)
    with pytest.raises(Problem, match="is damaged; expected which files"):
        vault.latest_before(6)
    assert (vault.folder.parent.parent / "secret").exists()
    assert (vault.folder / "final.safetensors").exists()
