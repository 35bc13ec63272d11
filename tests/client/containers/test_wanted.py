"""What each of the node's containers can see and write, wherever site, state and images lie in one another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from polyward_client.containers.wanted import Surroundings, check_site, gpus_of, once_of, wanted_of
from polyward_client.parts import make_folders
from polyward_client.site import ONLY_GPU, Site, read_site
from polyward_shared.containers import Wanted
from polyward_shared.problems import Problem

AROUND = Surroundings(images={"gate": "g:1", "trainer": "t:1"}, user="10001:10001", environment={"WHERE": "else"})
LAYOUTS = {  # the site's file, the state, the images and the vault's key
    "beside": ("site.toml", "keep", "images", "vault.key"),
    "state in the images": ("images/site.toml", "images/keep", "images", "vault.key"),
    "images in the state": ("site.toml", "keep", "keep/images", "keep/vault.key"),
    "key among the trainer's": ("site.toml", "keep", "images", "keep/trainer/vault.key"),
}


def site_in(folder: Path, layout: str = "beside", more: str = "", address: str = "hub.example.org:8443") -> Site:
    file, state, images, key = (folder / name for name in LAYOUTS[layout])
    for each in (file.parent, state, images):
        each.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f'name = "a"\nstate = "{state}"\n[data]\nroot = "{images}"\n[hub]\naddress = "{address}"\n'
        f'control = "hub.example.org:8444"\n[vault]\nkey = "{key}"\n{more}'
    )
    (images / "1.png").write_bytes(b"image")
    site = read_site(file)
    make_folders(site)
    for path in (site.ca, site.key, site.certificate, site.lock, key):
        path.write_text("x")
    return site


def access(wanted: Wanted, path: Path) -> str:
    """How a path of this machine can be used inside: `written`, `read`, or not at all: what is mounted nearest says."""
    over = {mount.target: "written" if mount.writable else "read" for mount in wanted.mounts}
    over |= {mount.target: "" for mount in wanted.mounts if mount.source == Path("/dev/null")}
    over |= dict.fromkeys(wanted.hidden, "")
    nearest = [target for target in over if path.is_relative_to(target)]
    return over[max(nearest, key=lambda target: len(target.parts))] if nearest else ""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_who_sees_and_writes_what(tmp_path: Path, layout: str) -> None:
    site = site_in(tmp_path, layout)
    way, trainer, gate = wanted_of(site, AROUND)
    key = tmp_path / LAYOUTS[layout][3]
    shared = "written" if key.is_relative_to(site.trainer) else "read"
    for path, of_trainer, of_gate in (
        (site.root / "1.png", "read", ""),
        (key, shared, ""),
        (site.vault, "written", ""),
        (site.cache, "written", ""),
        (site.key, "", "written"),
        (site.sent, "", "written"),
        (site.lock, "" if layout != "state in the images" else "read", "written"),
        (site.paused, "" if layout != "state in the images" else "read", "read"),
        (site.approved / "x.json", "read", "read"),
        (site.socket, "written", "written"),
        (site.logs / "x.log", "written", "written"),
        (site.path, "read", "read"),
        (site.ca, "read", "read"),
    ):
        assert (path, access(trainer, path), access(gate, path)) == (path, of_trainer, of_gate)
        assert access(way, path) == ("read" if path == site.path else "")


@pytest.mark.parametrize("which", ["trainer", "gate", "port", "logs", "approved"])
def test_a_folder_that_is_not_there_could_not_be_covered(tmp_path: Path, which: str) -> None:
    site = site_in(tmp_path)
    shutil.rmtree(getattr(site, which))
    with pytest.raises(Problem, match="there is no such folder"):
        wanted_of(site, AROUND)


def test_one_is_without_a_network_and_one_without_a_way_out(tmp_path: Path) -> None:
    way, trainer, gate = wanted_of(site_in(tmp_path), AROUND)
    assert trainer.networks == ()
    assert gate.networks == ("polyward-a",)
    assert way.networks == ("polyward-a", "polyward-a-out")
    assert way.aliases == ("way",)
    assert gate.environment["HTTPS_PROXY"] == gate.environment["grpc_proxy"] == "http://way:3128"
    assert gate.dns == ("127.0.0.1",)
    assert [one.ports for one in (way, trainer, gate)] == [{}, {}, {}]
    assert {one.user for one in (way, trainer, gate)} == {"10001:10001"}
    assert (way.image, trainer.image, gate.image) == ("g:1", "t:1", "g:1")


def test_links_are_followed_on_this_side(tmp_path: Path) -> None:
    """Inside there is no link: the path that site.toml names is a folder there."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "images").symlink_to(tmp_path / "disk")
    _, trainer, _ = wanted_of(site_in(tmp_path), AROUND)
    (mount,) = [mount for mount in trainer.mounts if mount.target == tmp_path / "images"]
    assert mount.source == tmp_path / "disk"


def test_variables_of_its_paths_go_along_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "else")
    site = site_in(tmp_path)
    site.path.write_text(site.path.read_text().replace(f'root = "{tmp_path}/images"', 'root = "${WHERE}"'))
    (tmp_path / "else").mkdir()
    _, trainer, _ = wanted_of(read_site(site.path), AROUND)
    assert trainer.environment == {"WHERE": "else"}


def test_the_hospitals_own_proxy_is_the_ways_alone(tmp_path: Path) -> None:
    said = {"https_proxy": "http://u:p@proxy:8080", "NO_PROXY": "x", "SECRET": "s"}
    way, trainer, gate = wanted_of(site_in(tmp_path), Surroundings(AROUND.images, AROUND.user, environment=said))
    assert way.environment == {"HTTPS_PROXY": "http://u:p@proxy:8080", "NO_PROXY": "x"}
    assert "proxy:8080" not in f"{trainer.environment}{gate.environment}"


@pytest.mark.parametrize(
    ("device", "nvidia", "gpus"),
    [("auto", True, "all"), ("auto", False, ""), ("cpu", True, ""), ("cuda", False, "all"), ("cuda:2", True, "2")],
)
def test_gpus(tmp_path: Path, device: str, nvidia: bool, gpus: str) -> None:
    site = site_in(tmp_path, more=f'[device]\nkind = "{device}"\n')
    assert gpus_of(site, nvidia=nvidia) == gpus
    _, trainer, gate = wanted_of(site, Surroundings(AROUND.images, AROUND.user, gpus))
    assert (trainer.gpus, gate.gpus) == (gpus, "")
    assert trainer.environment.get(ONLY_GPU) == ("cuda:0" if device == "cuda:2" else None)


def test_limits_are_the_trainers(tmp_path: Path) -> None:
    _, trainer, gate = wanted_of(site_in(tmp_path, more="[limits]\nmemory_gigabytes = 3\ncpus = 1.5\n"), AROUND)
    assert (trainer.memory_gigabytes, trainer.cpus) == (3, 1.5)
    assert (gate.memory_gigabytes, gate.cpus) == (2, None)


def test_a_single_command_may_decide_but_not_touch_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site = site_in(tmp_path)
    study, folder = tmp_path / "new" / "study.toml", tmp_path / "answers"
    study.parent.mkdir()
    study.write_text("x")
    folder.mkdir()
    asked = ("predict", "site.toml", "new/study.toml", "images", "out", "--model", "kept")
    once = once_of(site, AROUND, asked, (folder,))
    assert once.command == ("predict", str(site.path), str(study), str(site.root), "out", "--model", "kept")
    assert once.networks == ()
    assert once.folder == folder
    assert [access(once, path) for path in (site.approved, site.vault, site.paused, folder)] == ["written"] * 4
    assert [access(once, path) for path in (site.root, study, site.path)] == ["read"] * 3
    assert access(once, study.parent) == ""
    assert access(once_of(site, AROUND, ("manifest", "site.toml"), (site.root,)), site.manifest) == "written"


def test_what_would_mean_another_place_is_refused(tmp_path: Path) -> None:
    check_site(site_in(tmp_path / "a"))
    for address in ("127.0.0.1:1", "localhost:1", "[::1]:1"):
        with pytest.raises(Problem, match="the container itself"):
            check_site(site_in(tmp_path / "b", address=address))
    home = site_in(tmp_path / "c", more="")
    home.path.write_text(home.path.read_text().replace(str(home.root), "~"))
    with pytest.raises(Problem, match="depends on who reads it"):
        check_site(read_site(home.path))


@pytest.mark.parametrize("which", ["key", "certificate", "ca"])
def test_without_enrolment_nothing_starts(tmp_path: Path, which: str) -> None:
    site = site_in(tmp_path)
    getattr(site, which).unlink()
    with pytest.raises(Problem, match=r"no such file[\s\S]*enrol"):
        check_site(site)
