"""`polyward-node vault`, `backup` and `restore` as people type them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from polyward_client.cli.app import app
from polyward_client.decisions import Verdict, decide
from polyward_client.site import Site, read_site
from polyward_client.trainer.vault import new_vault_key, open_vault
from polyward_shared.messages import Kept
from polyward_shared.problems import Problem
from polyward_shared.supervise import only_one

STUDY, OTHER = "5" * 64, "6" * 64


def polyward(*arguments: str | Path, code: int = 0) -> str:
    """What one command prints, on both streams. Raises what it raises."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def site(tmp_path: Path) -> Site:
    path = tmp_path / "site.toml"
    path.write_text('name = "north"\n[vault]\nkey = "vault.key"\nrounds = 3\n')
    new_vault_key(tmp_path / "vault.key")
    site = read_site(path)
    for study in (STUDY, OTHER):
        vault = open_vault(site, study)
        for round in (1, 2, 3):
            vault.keep({"x": np.ones(9, np.float32)}, round=round, state_digest="", tasks=("mask", "grade"))
    kept: dict[str, Kept] = {"mask": "alone", "grade": "federated"}
    open_vault(site, OTHER).keep_final(
        {"x": np.ones(9, np.float32)}, round=3, state_digest="", tasks=("mask", "grade"), kept=kept
    )
    return site


def names(site: Site, study: str) -> list[str]:
    vault = open_vault(site, study)
    return [str(path.relative_to(vault.folder)) for path in vault.files()]


def test_history_tells_what_is_kept(site: Site) -> None:
    shown = polyward("vault", "history", site.path)
    assert STUDY[:12] in shown
    assert "alone" in shown
    assert "final, 3" in shown
    assert shown.count("yes") == 7
    assert STUDY[:12] not in polyward("vault", "history", site.path, "--study", "66")


def test_history_tells_of_a_damaged_file_and_goes_on(site: Site) -> None:
    path = open_vault(site, STUDY).round_path(2)
    path.write_bytes(path.read_bytes()[:-1])
    assert polyward("vault", "history", site.path).count("damaged") == 1


def test_verify_names_the_damaged_file_and_the_plain_one(site: Site) -> None:
    assert "every file is whole" in polyward("vault", "verify", site.path)
    path = open_vault(site, STUDY).round_path(2)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    shown = polyward("vault", "verify", site.path, code=2)
    assert f"{STUDY}/round-000002.safetensors: is damaged" in shown
    assert "round-000003" not in shown
    site.path.write_text('name = "north"\n')
    plain = open_vault(read_site(site.path), "7" * 64)
    plain.keep({"x": np.ones(1, np.float32)}, round=1, state_digest="", tasks=("a",))
    site.path.write_text('name = "north"\n[vault]\nkey = "vault.key"\n')
    shown = polyward("vault", "verify", site.path, code=2)
    assert f"{'7' * 64}/round-000001.safetensors: is not sealed" in shown


def test_back_and_forth(site: Site) -> None:
    assert "set aside: round-000002.safetensors, round-000003" in polyward("vault", "rollback", site.path, "55", "1")
    assert "3, aside" in polyward("vault", "history", site.path)
    assert "back again" in polyward("vault", "rollback", site.path, "55", "--undo")
    assert names(site, STUDY) == [f"round-00000{round}.safetensors" for round in (1, 2, 3)]
    with pytest.raises(Problem, match="either a round or --undo"):
        polyward("vault", "rollback", site.path, "55")
    with pytest.raises(Problem, match="no studies begin with '77'"):
        polyward("vault", "rollback", site.path, "77", "1")


def test_prune_takes_what_is_asked_for_and_asks_first(site: Site) -> None:
    assert "nothing to delete" in polyward("vault", "prune", site.path)
    with pytest.raises(Problem, match="would delete these 3 files"):
        polyward("vault", "prune", site.path, "--finished")
    assert len(names(site, OTHER)) == 4
    polyward("vault", "prune", site.path, "--finished", "--yes")
    assert names(site, OTHER) == ["final.safetensors"]
    site.path.write_text('name = "north"\n[vault]\nkey = "vault.key"\nrounds = 2\n')
    polyward("vault", "prune", site.path, "--yes")
    assert names(site, STUDY) == ["round-000002.safetensors", "round-000003.safetensors"]
    polyward("vault", "rollback", site.path, "55", "2")
    polyward("vault", "prune", site.path, "--aside", "--yes")
    assert names(site, STUDY) == ["round-000002.safetensors"]
    assert not (site.vault / STUDY / "aside").exists()


def test_prune_takes_everything_of_a_study_that_is_still_withdrawn(site: Site) -> None:
    decide(site.approved, Verdict.WITHDRAWN, study=STUDY)
    decide(site.approved, Verdict.WITHDRAWN, study=OTHER)
    decide(site.approved, Verdict.APPROVED, study=OTHER)
    polyward("vault", "prune", site.path, "--withdrawn", "--yes")
    assert [path.name for path in site.vault.iterdir() if path.is_dir()] == [OTHER]


def test_a_new_key_and_a_rotation(site: Site, tmp_path: Path) -> None:
    assert 'key = "second.key"' in polyward("vault", "key", site.path, tmp_path / "second.key")
    assert "sealed 7 files anew" in polyward("vault", "rotate", site.path)
    assert "every file is whole" in polyward("vault", "verify", site.path)


def test_backup_and_restore(site: Site, tmp_path: Path) -> None:
    shown = polyward("backup", site.path, tmp_path / "b.zip")
    assert "it holds no keys" in shown
    assert "this file holds keys" in polyward("backup", site.path, tmp_path / "keys.zip", "--with-keys")
    (tmp_path / "new").mkdir()
    shown = polyward("restore", tmp_path / "new" / "site.toml", tmp_path / "keys.zip")
    assert "north is as it was on" in shown
    assert "every file is whole" in polyward("vault", "verify", tmp_path / "new" / "site.toml")


def test_while_the_node_runs_only_looking_is_allowed(site: Site, tmp_path: Path) -> None:
    descriptor = only_one(site.lock, site.name)
    try:
        commands: list[list[str | Path]] = [
            ["vault", "rotate", site.path],
            ["vault", "prune", site.path],
            ["vault", "rollback", site.path, "55", "1"],
            ["backup", site.path, tmp_path / "b.zip"],
        ]
        for command in commands:
            with pytest.raises(Problem, match="is already running"):
                polyward(*command)
        polyward("vault", "history", site.path)
        polyward("vault", "verify", site.path)
    finally:
        os.close(descriptor)
    assert not (tmp_path / "b.zip").exists()


def test_a_disk_that_cannot_be_written_is_told(site: Site) -> None:
    with pytest.raises(Problem, match="there is no such folder"):
        polyward("backup", site.path, site.path.parent / "absent" / "b.zip")
    with pytest.raises(Problem, match="cannot be read or written"):
        polyward("backup", site.path, "/proc/b.zip")


def test_a_link_in_the_vault_is_not_followed(site: Site, tmp_path: Path) -> None:
    """Who runs these commands may be root, and the vault another user's."""
    (tmp_path / "private").mkdir()
    for name in (".round-000001.safetensors.x", "round-000001.safetensors", ".profile"):
        (tmp_path / "private" / name).touch()
    (site.vault / ("7" * 64)).symlink_to(tmp_path / "private")
    polyward("vault", "rotate", site.path)
    polyward("vault", "prune", site.path, "--finished", "--withdrawn", "--aside", "--yes")
    polyward("backup", site.path, tmp_path / "b.zip")
    assert len(list((tmp_path / "private").iterdir())) == 3
