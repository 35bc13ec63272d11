"""A new key takes over without a moment in which anything cannot be opened."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from polyward_client.site import Site, read_site
from polyward_client.trainer.vault import new_vault_key, open_vault
from polyward_client.trainer.vault.keys import read_keys
from polyward_client.trainer.vault.rotate import rotate
from polyward_client.trainer.vault.seal import is_sealed
from polyward_shared.problems import Problem
from tests.client.trainer.vault.dying import dies

STUDIES = ("5" * 64, "6" * 64)
WORDS, OTHER_WORDS = "six words that were drawn by chance", "and six others, which are newer"


def make_site(folder: Path, vault: str = 'key = "vault.key"') -> Site:
    folder.mkdir(exist_ok=True)
    path = folder / "site.toml"
    path.write_text(f'name = "north"\n[vault]\n{vault}\n')
    return read_site(path)


def fill(site: Site) -> None:
    for value, study in enumerate(STUDIES):
        vault = open_vault(site, study)
        for round in (1, 2):
            vault.keep({"x": np.full(9, 10 * value + round, np.float32)}, round=round, state_digest="", tasks=("a",))


def held(site: Site) -> list[float]:
    """The first value of every file, all of which must open now."""
    vaults = [open_vault(site, study) for study in STUDIES]
    return [float(vault.arrays(vault.entry(path))["x"][0]) for vault in vaults for path in vault.files()]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path / "site")
    new_vault_key(tmp_path / "site" / "vault.key")
    fill(site)
    return site


def test_the_old_key_opens_nothing_any_more(site: Site, tmp_path: Path) -> None:
    key = site.path.parent / "vault.key"
    shutil.copy(key, tmp_path / "old.key")
    dates = {path: path.stat().st_mtime_ns for path in site.vault.rglob("*.safetensors")}
    told: list[tuple[int, int]] = []
    assert rotate(site, told=lambda done, of: told.append((done, of))) == 4
    assert told[-1] == (4, 4)
    assert held(site) == [1, 2, 11, 12]
    assert {path: path.stat().st_mtime_ns for path in site.vault.rglob("*.safetensors")} == dates
    [new], [old] = read_keys(key).secrets, read_keys(tmp_path / "old.key").secrets
    assert new != old
    assert key.stat().st_mode & 0o777 == 0o600
    shutil.copy(tmp_path / "old.key", key)
    with pytest.raises(Problem, match="is sealed with another key"):
        held(site)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_administrator_takes_no_file_from_the_trainers_user(site: Site) -> None:
    paths = [*site.vault.rglob("*.safetensors"), site.path.parent / "vault.key"]
    for path in paths:
        os.chown(path, 12_345, 12_346)
    rotate(site)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in paths} == {(12_345, 12_346)}


def test_what_was_plain_is_sealed(tmp_path: Path) -> None:
    fill(make_site(tmp_path / "site", ""))
    site = make_site(tmp_path / "site")
    new_vault_key(tmp_path / "site" / "vault.key")
    (site.vault / STUDIES[0] / ".round-000003.safetensors.abc").write_bytes(b"a draft")
    assert rotate(site) == 4
    assert all(is_sealed(path) for path in site.vault.rglob("*") if path.is_file() and path.name != "salt")
    assert held(site) == [1, 2, 11, 12]


def test_a_file_that_cannot_be_read_keeps_the_old_key(site: Site) -> None:
    path = site.vault / STUDIES[0] / "round-000001.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(Problem, match="keeps the old key too, for 1 of 4 files"):
        rotate(site)
    assert len(read_keys(site.path.parent / "vault.key").secrets) == 2
    path.write_bytes(whole)
    assert rotate(site) == 1
    assert len(read_keys(site.path.parent / "vault.key").secrets) == 1
    assert held(site) == [1, 2, 11, 12]


def test_a_passphrase_is_changed_in_its_file(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", 'passphrase = "phrase"')
    for path, words in ((site.path.parent / "phrase", WORDS), (tmp_path / "new", OTHER_WORDS)):
        path.write_text(f"{words}\n")
        path.chmod(0o600)
    fill(site)
    with pytest.raises(Problem, match="holds one passphrase; expected a new one"):
        rotate(site)
    assert rotate(site, passphrase=tmp_path / "new") == 4
    assert (site.path.parent / "phrase").read_text() == f"{OTHER_WORDS}\n"
    assert held(site) == [1, 2, 11, 12]
    assert rotate(site, passphrase=tmp_path / "new") == 0


def test_nothing_to_rotate_and_nothing_to_rotate_with(site: Site, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="neither key nor passphrase is set"):
        rotate(make_site(tmp_path / "plain", ""))
    with pytest.raises(Problem, match="leave it out"):
        rotate(site, passphrase=tmp_path / "new")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 3, 6])
def test_killed_at_any_rename_everything_opens_and_the_next_rotation_ends_it(
    site: Site, number: int, when: str
) -> None:
    """The renames: the key file with both keys (and the salt, which is there), four files, the key file with one."""
    key = site.path.parent / "vault.key"
    [old] = read_keys(key).secrets
    assert dies(number, when, "vault", "rotate", site.path)
    assert held(site) == [1, 2, 11, 12]
    begun = read_keys(key).secrets
    assert len(begun) == (1 if (number, when) in {(1, "before"), (6, "after")} else 2)
    if begun[0] != old:
        assert rotate(site) == (4 - min(number - (2 if when == "before" else 1), 4) if len(begun) > 1 else 4)
    else:
        assert rotate(site) == 4
    [new] = read_keys(key).secrets
    assert new != old
    assert held(site) == [1, 2, 11, 12]
    assert not dies(100, "before", "vault", "verify", site.path)
