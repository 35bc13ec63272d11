"""A backup holds what it says, and a restore is all of it or nothing, whoever made the file."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyward_client.backup import write_backup
from polyward_client.restore import restore
from polyward_client.site import Site, read_site
from polyward_client.trainer.vault import new_vault_key, open_vault
from polyward_shared.archive import MANIFEST
from polyward_shared.chain import Chain
from polyward_shared.problems import Problem

STUDY = "5" * 64
TOML = 'name = "north"\n[hub]\naddress = "hub.example.org:8443"\n[vault]\nkey = "vault.key"\n'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    path = tmp_path / "old" / "site.toml"
    path.parent.mkdir()
    path.write_text(TOML)
    site = read_site(path)
    site.ca.write_text("a certificate")
    new_vault_key(path.parent / "vault.key")
    vault = open_vault(site, STUDY)
    for round in (1, 2):
        vault.keep({"x": np.full(5, round, np.float32)}, round=round, state_digest="", tasks=("a",))
    Chain(site.sent).append({"what": "something"})
    files = ["approved/a.json", "gate/node.key", "gate/node.pem", "gate/status.json", "trainer/cache/images.npy"]
    files += [f"trainer/training/{STUDY}.jsonl", "port/spool/update", "logs/trainer.log", "run.lock"]
    for name in files:
        (site.state / name).parent.mkdir(parents=True, exist_ok=True)
        (site.state / name).write_text(f"text of {name}")
    return site


@pytest.fixture
def backup(site: Site, tmp_path: Path) -> Path:
    write_backup(site, tmp_path / "backup.zip", with_keys=True)
    return tmp_path / "backup.zip"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    return tmp_path / "new" / "site.toml"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_comes_back_is_what_there_was(site: Site, tmp_path: Path, place: Path) -> None:
    told: list[tuple[int, int]] = []
    manifest = write_backup(site, tmp_path / "b", with_keys=False, told=lambda done, of: told.append((done, of)))
    assert told[-1][0] == told[-1][1] == sum(part.bytes for part in manifest.parts)
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600
    fresh, _ = restore(place, tmp_path / "b")
    vault = f"north.state/trainer/vault/{STUDY}"
    wanted = {
        *("site.toml", "ca.pem", "north.state/approved/a.json", "north.state/gate/sent.jsonl"),
        *(f"north.state/trainer/training/{STUDY}.jsonl", "north.state/trainer/vault/salt"),
        *(f"{vault}/round-000001.safetensors", f"{vault}/round-000002.safetensors"),
    }
    before, after = contents(site.path.parent), contents(place.parent)
    assert after == {name: before[name] for name in wanted}
    assert [path for path in fresh.state.rglob("*") if path.stat().st_mode & 0o077] == []
    one, two = (each.vault / STUDY / "round-000002.safetensors" for each in (site, fresh))
    assert one.stat().st_mtime == pytest.approx(two.stat().st_mtime, abs=1e-3)


def test_keys_come_only_when_asked_for(site: Site, tmp_path: Path, backup: Path, place: Path) -> None:
    write_backup(site, tmp_path / "without", with_keys=False)
    for secret in ((site.path.parent / "vault.key").read_bytes(), site.key.read_bytes()):
        assert secret in backup.read_bytes()
        assert secret not in (tmp_path / "without").read_bytes()
    fresh, _ = restore(place, backup)
    assert fresh.key.read_text() == "text of gate/node.key"
    assert (place.parent / "vault.key").stat().st_mode & 0o777 == 0o600
    entry = open_vault(fresh, STUDY).latest_before(9)
    assert entry is not None
    assert open_vault(fresh, STUDY).arrays(entry)["x"].tolist() == [2] * 5


def test_a_key_within_the_state_comes_back_there(tmp_path: Path, place: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text('name = "north"\nstate = "kept"\n[vault]\nkey = "kept/trainer/vault.key"\n')
    new_vault_key(tmp_path / "kept" / "trainer" / "vault.key")
    manifest = write_backup(read_site(path), tmp_path / "b", with_keys=True)
    assert [part.name for part in manifest.parts] == ["site/site.toml", "site/vault.key"]
    fresh, _ = restore(place, tmp_path / "b")
    assert (fresh.trainer / "vault.key").read_bytes() == (tmp_path / "kept/trainer/vault.key").read_bytes()


def test_a_file_is_never_overwritten(site: Site, backup: Path) -> None:
    before = backup.read_bytes()
    with pytest.raises(Problem, match="is there already"):
        write_backup(site, backup, with_keys=False)
    assert backup.read_bytes() == before


def test_a_link_does_not_go_into_a_backup(site: Site, tmp_path: Path) -> None:
    (site.approved / "b.json").symlink_to("/etc/passwd")
    with pytest.raises(Problem, match="is a link"):
        write_backup(site, tmp_path / "b", with_keys=False)
    assert not (tmp_path / "b").exists()


def test_a_state_that_is_there_is_never_mixed_with_another(backup: Path, place: Path) -> None:
    state = place.parent / "north.state"
    state.mkdir()
    (state / "anything").touch()
    with pytest.raises(Problem, match="holds a state already"):
        restore(place, backup)
    assert contents(place.parent) == {"north.state/anything": b""}
    (state / "anything").unlink()
    restore(place, backup)  # an empty folder is none


def test_a_site_file_that_is_there_counts(backup: Path, place: Path) -> None:
    place.write_text('name = "north"\nstate = "elsewhere"\n')
    site, _ = restore(place, backup)
    assert site.state == place.parent / "elsewhere"
    assert place.read_text() == 'name = "north"\nstate = "elsewhere"\n'
    assert (site.gate / "sent.jsonl").exists()
    shutil.rmtree(site.state)
    place.write_text('name = "south"\n')
    with pytest.raises(Problem, match=r"is a backup of 'north'; expected one of 'south'"):
        restore(place, backup)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1), change=st.integers(1, 255), cut=st.booleans())
def test_damage_anywhere_is_a_problem_or_harmless_and_leaves_nothing(
    backup: Path, place: Path, at: float, change: int, cut: bool
) -> None:
    data = bytearray(backup.read_bytes())
    spot = int(at * (len(data) - 1))
    if cut:
        del data[spot:]
    else:
        data[spot] ^= change
    damaged = backup.parent / "damaged.zip"
    damaged.write_bytes(data)
    try:
        restore(place, damaged)
    except Problem:
        assert contents(place.parent) == {}
        assert list(place.parent.iterdir()) == []
    else:  # a byte of the archive's own that says nothing, such as a date
        whole = hashlib.sha256(
            (place.parent / f"north.state/trainer/vault/{STUDY}/round-000002.safetensors").read_bytes()
        )
        with zipfile.ZipFile(backup) as archive:
            stated = json.loads(archive.read(MANIFEST))["parts"]
        assert whole.hexdigest() in {part["sha256"] for part in stated}
        shutil.rmtree(place.parent)
        place.parent.mkdir()


def forged(backup: Path, change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> Path:
    """The backup with other parts, and a list that fits them."""
    with zipfile.ZipFile(backup) as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if name != MANIFEST}
        manifest = json.loads(archive.read(MANIFEST))
    change(parts)
    manifest["parts"] = [
        {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "changed": 1.0}
        for name, data in parts.items()
    ]
    path = backup.parent / "forged.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
        archive.writestr(MANIFEST, json.dumps(manifest))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "/etc/outside",
        "state/../../outside",
        "state/trainer/vault/../../../../outside",
        f"state/trainer/vault/{STUDY}/moves.json",
        f"state/trainer/vault/{STUDY}/aside/001-to-000001/../../../x",
        "state/gate/../x.json",
        "state/gate/.hidden.json",
        "state/port/spool/x",
        "state/run.lock",
        "site/other.toml",
        "state/approved/",
        "state\\gate\\x.json",
    ],
)
def test_a_name_that_no_backup_has_is_refused(backup: Path, place: Path, name: str) -> None:
    with pytest.raises(Problem, match="no part of a site"):
        restore(place, forged(backup, lambda parts: parts.update({name: b"x"})))
    assert list(place.parent.iterdir()) == []
    assert not (backup.parent / "outside").exists()


def test_a_link_in_an_archive_becomes_no_link(backup: Path, place: Path) -> None:
    """zip keeps a link as a file with an attribute, which nothing here looks at."""
    path = forged(backup, lambda parts: None)
    data = b"/etc/passwd"
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("state/approved/link.json")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, data)
    with pytest.raises(Problem, match="is not what its list says"):
        restore(place, path)
    assert list(place.parent.iterdir()) == []


def test_nothing_compressed_is_opened(backup: Path, place: Path) -> None:
    bomb = forged(
        backup,
        lambda parts: parts.update({"state/gate/sent.jsonl": bytes(50 << 20)}),
        compression=zipfile.ZIP_DEFLATED,
    )
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(Problem, match="holds compressed parts"):
        restore(place, bomb)


def test_a_part_twice_is_refused(backup: Path, place: Path) -> None:
    with zipfile.ZipFile(backup, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("site/ca.pem", b"another authority")
    with pytest.raises(Problem, match="a part twice"):
        restore(place, backup)


@pytest.mark.parametrize(
    "line",
    [
        'state = "/tmp/elsewhere"',
        'state = "../elsewhere"',
        '[vault]\nkey = "/etc/profile.d/x.sh"',
        '[hub]\nca = "../x"',
    ],
)
def test_a_forged_site_file_names_no_place_outside_its_folder(backup: Path, place: Path, line: str) -> None:
    text = f'name = "north"\n{line}\n' + ('address = "a:1"\n' if "hub" in line else "")
    with pytest.raises(Problem, match=r"its site\.toml names .* outside of"):
        restore(place, forged(backup, lambda parts: parts.update({"site/site.toml": text.encode()})))
    assert list(place.parent.iterdir()) == []


def test_a_file_that_is_no_backup(tmp_path: Path, place: Path) -> None:
    for name, data in (("text", b"hello"), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Problem, match="is no backup"):
            restore(place, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a", b"a")
    with pytest.raises(Problem, match="is no backup of a site"):
        restore(place, tmp_path / "zip")
    with pytest.raises(Problem, match="there is no such file"):
        restore(place, tmp_path / "absent")


@pytest.mark.parametrize("number", [1, 8, 12, 14, 15])
def test_killed_at_any_rename_it_can_be_done_again(backup: Path, place: Path, number: int) -> None:
    """The renames: 12 parts into the folder beside, three files beside the site's folder, and that folder last."""
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nleft, rename = [int(sys.argv[3])], os.replace\n"
        "def deadly(*args):\n    left[0] -= 1\n"
        "    if left[0] == 0:\n        os.kill(os.getpid(), signal.SIGKILL)\n    rename(*args)\n"
        "os.replace = os.rename = deadly\n"
        "from polyward_client.restore import restore\nrestore(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, place, backup, str(number)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (place.parent / "north.state").exists()
    site, _ = restore(place, backup)
    assert sorted(path.name for path in place.parent.iterdir()) == ["ca.pem", "north.state", "site.toml", "vault.key"]
    assert len(contents(site.state)) == 8
