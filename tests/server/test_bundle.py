"""The folder that a hospital unpacks: complete, private, sealed in every service, and never in another's place."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from polyward_client.site import read_site
from polyward_server.bundle.writing import TEXTS
from polyward_server.cli.app import app
from polyward_server.hub import Hub, init
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_shared.invitation import read_invitation
from polyward_shared.problems import Problem

DEPLOY = Path(__file__).parents[2] / "deploy"
FOREVER = {"gate", "trainer", "way"}
NETWORKS = {
    "trainer": "none",
    "tool": "none",
    "manifest": "none",
    "gate": ["inside"],
    "enrol": ["inside"],
    "way": ["inside", "outside"],
}
KEY, IMAGES, VAULT = "/site/state/gate", "/site/data", "/site/state/trainer"


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    made = init(tmp_path / "hub", name="The `north` | *hub*", host="hub.example.org", port=9443)
    Ledger(made.ledger).close()
    return made


def invited(hub: Hub, folder: Path, *options: str) -> str:
    arguments = ["invite", str(hub.folder), "North.1", "--bundle", "--output", str(folder), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    return result.output


@pytest.fixture
def bundle(hub: Hub, tmp_path: Path) -> Path:
    invited(hub, tmp_path / "bundle")
    return tmp_path / "bundle"


def services(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((bundle / "compose.yaml").read_text())["services"]
    return found


def mounted(service: Any) -> dict[str, bool]:
    """What a service sees of the site -> whether it can write there. What is empty counts as nothing."""
    return {
        mount["target"]: not mount.get("read_only", False)
        for mount in service["volumes"]
        if mount["type"] == "bind" and mount["target"].startswith("/site")
    }


def test_it_holds_all_that_the_node_needs(hub: Hub, bundle: Path) -> None:
    invitation = read_invitation((bundle / "invitation").read_text())
    site = read_site(bundle / "site.toml")
    assert (site.name, invitation.site) == ("North.1", "North.1")
    assert site.file.hub is not None
    assert site.file.hub.address == invitation.address == "hub.example.org:9443"
    assert site.file.hub.control == invitation.control == "hub.example.org:9444"
    assert site.ca.read_bytes() == hub.ca.read_bytes()
    assert site.state == bundle / "state"
    for folder in (site.root, site.approved, site.gate, site.trainer, site.port, site.logs):
        assert folder.is_dir(), folder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert site.lock.is_file()  # what is mounted by itself and absent would become a folder of root's


def test_it_is_for_its_owner_alone(bundle: Path) -> None:
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o700
    assert stat.S_IMODE((bundle / "invitation").stat().st_mode) == 0o600
    secret = read_invitation((bundle / "invitation").read_text()).token
    others = [path for path in bundle.rglob("*") if path.is_file() and path.name != "invitation"]
    assert others
    assert not [path for path in others if secret in path.read_text()]


def test_a_folder_is_never_overwritten(hub: Hub, bundle: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    result = CliRunner().invoke(app, ["invite", str(hub.folder), "North.1", "--bundle", "--output", str(bundle)])
    assert isinstance(result.exception, Problem)
    assert "exists already" in str(result.exception)
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before
    ledger = Ledger(hub.ledger)
    assert len(Roster(ledger).invited()) == 1  # and none was made that nobody holds
    ledger.close()


def test_whole_or_not_at_all(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    result = CliRunner().invoke(app, ["invite", str(hub.folder), "../../x", "--bundle", "--output", str(folder)])
    assert isinstance(result.exception, Problem)
    assert {path.name for path in tmp_path.iterdir()} == {"hub"}


def test_its_folder_has_the_sites_name_and_it_may_be_approved_beforehand(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["invite", str(hub.folder), "east", "--bundle", "--pre-approved"])
    assert result.exit_code == 0
    ledger = Ledger(hub.ledger)
    [asked] = Roster(ledger).invited()
    ledger.close()
    assert (asked.site, asked.approved) == ("east", True)
    assert read_invitation((tmp_path / "east" / "invitation").read_text()).site == "east"


def test_every_service_is_sealed(bundle: Path) -> None:
    found = services(bundle)
    assert set(found) == set(NETWORKS)
    for name, service in found.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"] == "${POLYWARD_USER:-10001:10001}"
        assert service["pids_limit"]
        assert service["mem_limit"]
        assert service["logging"]["options"]["max-size"]
        assert not {"ports", "privileged", "cap_add", "devices", "pid", "ipc", "build"} & set(service)
        assert service.get("network_mode", service.get("networks")) == NETWORKS[name], name
        assert (service.get("restart") == "unless-stopped") == (name in FOREVER)
        assert ("profiles" in service) != (name in FOREVER)  # nothing else is started by `up`
    assert yaml.safe_load((bundle / "compose.yaml").read_text())["networks"]["inside"]["internal"] is True


def test_each_sees_its_own_alone(bundle: Path) -> None:
    found = {name: mounted(service) for name, service in services(bundle).items()}
    assert found["way"] == {"/site/site.toml": False}
    for name in ("gate", "enrol"):
        assert not {IMAGES, VAULT} & set(found[name]), name
    # all of the state is shown to the gate, for the flag that pauses it: then something empty lies over the vault
    hidden = [mount for mount in services(bundle)["gate"]["volumes"] if mount["target"] == VAULT]
    assert [mount["type"] for mount in hidden] == ["tmpfs"]
    assert found["gate"]["/site/state"] is False
    assert not {KEY, "/site/state"} & set(found["trainer"])
    assert {name for name, mounts in found.items() if mounts.get(IMAGES)} == {"manifest"}
    for name in ("gate", "trainer"):
        assert found[name]["/site/state/approved"] is False
        assert found[name]["/site/site.toml"] is False
    writable = {name: {path for path, may in found[name].items() if may} for name in ("gate", "trainer")}
    met = {"/site/state/port", "/site/state/logs"}
    assert writable == {"gate": met | {KEY, "/site/state/run.lock"}, "trainer": met | {VAULT}}


def test_everything_that_is_mounted_is_there(bundle: Path) -> None:
    later = {"/etc/localtime", "${POLYWARD_DATA:-./data}"}
    sources = {
        mount["source"]
        for service in services(bundle).values()
        for mount in service["volumes"]
        if mount["type"] == "bind" and mount["source"] not in later
    }
    assert len(sources) > 8
    assert [source for source in sources if not (bundle / source).exists()] == []


def test_the_readme_speaks_of_this_site(hub: Hub, tmp_path: Path) -> None:
    invited(hub, tmp_path / "two")
    told = (tmp_path / "two" / "README.md").read_text()
    assert "# The node of North.1" in told
    assert "**The north hub**" in told  # no markup of the hub's name
    assert "| `hub.example.org:9443`, TCP | out |" in told
    assert "| `hub.example.org:9444`, TCP | out |" in told
    assert "COMPOSE_PROJECT_NAME=polyward-north-1\n" in (tmp_path / "two" / ".env").read_text()
    narrow = init(tmp_path / "narrow", name="narrow", host="10.0.0.1", port=9443, gateway="hub.example.org:443")
    Ledger(narrow.ledger).close()
    invited(narrow, tmp_path / "one")
    told = (tmp_path / "one" / "README.md").read_text()
    assert "| `hub.example.org:443`, TCP | out | everything" in told
    assert "9443" not in told
    assert "@" not in told.replace("@hospital", "")


def test_the_gpu_variant_changes_the_trainer_and_the_tool_alone(bundle: Path) -> None:
    variant = yaml.safe_load((bundle / "compose.gpu.yaml").read_text())["services"]
    assert set(variant) == {"trainer", "tool"}
    for service in variant.values():
        assert set(service) == {"deploy"}
        [device] = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_deploy_shows_the_same_file() -> None:
    assert os.path.samefile(DEPLOY / "compose.node.yaml", str(TEXTS / "compose.yaml"))
