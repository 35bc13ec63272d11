"""`site.toml`: paths beside the file, variables from the environment, and what it may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_client.site import Policy, read_site
from polyward_shared.problems import Problem

PLAIN = 'name = "riverside"\ntasks = ["mask"]\n[data]\nroot = "images"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    site = read_site(written(tmp_path, PLAIN))
    assert site.root == tmp_path / "images"
    assert site.manifest == tmp_path / "images" / "manifest.csv"
    assert site.state == tmp_path / "riverside.state"
    assert {path.parent for path in (site.gate, site.trainer, site.port, site.approved, site.paused)} == {site.state}
    assert {path.parent for path in (site.sent, site.key, site.status)} == {site.gate}
    assert {path.parent for path in (site.vault, site.journal, site.cache)} == {site.trainer}
    assert {path.parent for path in (site.spool, site.socket)} == {site.port}
    assert site.ca == tmp_path / "ca.pem"
    assert site.file.policy == Policy(minimum_count=5, minimum_train=5, keeps="better")


def test_the_state_may_be_elsewhere(tmp_path: Path) -> None:
    assert read_site(written(tmp_path, f'state = "keep"\n{PLAIN}')).state == tmp_path / "keep"
    assert read_site(written(tmp_path, PLAIN), state=tmp_path / "other").state == tmp_path / "other"


def test_steps_up_need_no_folder_to_step_up_from(tmp_path: Path) -> None:
    site = read_site(written(tmp_path, PLAIN.replace('"images"', '"not/there/../../images"')))
    assert site.root == tmp_path / "images"


def test_variables_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, PLAIN.replace('"images"', '"${POLYWARD_IMAGES}/a"'))
    monkeypatch.setenv("POLYWARD_IMAGES", "/data")
    assert read_site(path).root == Path("/data/a")
    monkeypatch.delenv("POLYWARD_IMAGES")
    with pytest.raises(Problem, match=r"data\.root: found '\$\{POLYWARD_IMAGES\}/a', but .* is not set") as caught:
        read_site(path)
    assert caught.value.remedy.startswith("export POLYWARD_IMAGES=")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["mask"]', '["mask", "mask"]', "tasks: found .* expected each task once"),
        ('["mask"]', '["Mask"]', r"tasks\.0: found 'Mask'; expected a task name"),
        ("[data]", '[policy]\nhours = ["22-6"]\n[data]', r"policy\.hours\.0: found '22-6'; expected hours such as"),
        ('root = "images"', 'root = "i"\ncolumns = { msk = "x" }', r"data\.columns: found msk; expected .*: mask"),
        ('root = "images"', 'root = "i"\nroots = "j"', r"data\.roots: this key is unknown; expected root, manifest"),
        ("[data]", '[device]\nkind = "gpu"\n[data]', r"device\.kind: found 'gpu'; expected auto, cpu, cuda"),
        ("[data]", "[policy]\nminimum_count = 0\n[data]", r"policy\.minimum_count: found 0; expected greater than or"),
        (
            "[data]",
            '[policy]\nkeeps = "ditto"\n[data]',
            r"policy\.keeps: found 'ditto'; expected 'better', 'federated' or",
        ),
        ("[data]", '[hub]\naddress = "hub"\n[data]', r"hub\.address: found 'hub'; expected host:port"),
        ('"riverside"', '"river/side"', "name: found 'river/side'; expected 1 to 63 letters"),
        ('"riverside"', '".."', r"name: found '\.\.'"),
    ],
)
def test_what_a_site_may_not_say(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(Problem, match=message):
        read_site(written(tmp_path, PLAIN.replace(old, new)))
