"""systemd units: those in the repository are what the program prints, and a site's own are filled in."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import polyward_client.cli.running  # noqa: F401  # which adds its commands
from polyward_client.cli.app import app
from polyward_client.service import INSTANCE, place_of, units
from polyward_client.site import read_site
from polyward_shared.problems import Problem

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
PLAIN = 'name = "a"\nstate = "keep"\n[data]\nroot = "images"\n'
USERS = '[isolation]\ngate_user = "pw-gate"\ntrainer_user = "pw-trainer"\n'


def test_the_units_in_the_repository_are_these() -> None:
    texts = {**units(INSTANCE, two_users=False), **units(INSTANCE, two_users=True)}
    assert texts == {name: (UNITS / name).read_text() for name in texts}
    assert len(texts) == 3


def settings(text: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return dict(pairs)


def test_a_sites_own(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(
        PLAIN
        + USERS
        + '[limits]\nmemory_gigabytes = 1.5\nnice = 5\n[vault]\npassphrase = "${CREDENTIALS_DIRECTORY}/words"\n'
    )
    two = units(place_of(read_site(path), "pw"), two_users=True)
    gate, trainer = settings(two["polyward-gate@a.service"]), settings(two["polyward-trainer@a.service"])
    assert (gate["User"], trainer["User"], trainer["SupplementaryGroups"]) == ("pw-gate", "pw-trainer", "pw-gate")
    assert gate["InaccessiblePaths"] == f"-{tmp_path}/images -{tmp_path}/keep/trainer"
    assert (trainer["PrivateNetwork"], trainer["RestrictAddressFamilies"]) == ("yes", "AF_UNIX")
    assert trainer["ReadOnlyPaths"] == f"{tmp_path}/images"
    assert (trainer["MemoryMax"], trainer["Nice"]) == ("1536M", "5")
    assert trainer["LoadCredential"] == f"words:{tmp_path}/words"
    assert "PrivateNetwork" not in gate
    assert "LoadCredential" not in gate
    one = settings(units(place_of(read_site(path), "pw"), two_users=False)["polyward-node@a.service"])
    assert (one["User"], one["RestrictNamespaces"]) == ("pw", "user mnt net")
    for each in (gate, trainer, one):
        assert (each["NoNewPrivileges"], each["CapabilityBoundingSet"], each["Restart"]) == ("yes", "", "always")
        assert each["ProtectSystem"] == "strict"


def test_the_command_prints_them(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(PLAIN)
    done = CliRunner().invoke(app, ["service", str(path), "--user", "me"])
    assert done.exit_code == 0
    assert done.stdout.startswith("# /etc/systemd/system/polyward-node@a.service\n[Unit]")
    assert "User=me\n" in done.stdout
    done = CliRunner().invoke(app, ["service", str(path), "--two-users"])
    assert isinstance(done.exception, Problem)
    assert 'gate_user = "polyward-gate"' in done.exception.remedy


def test_a_path_that_a_unit_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "a b" / "site.toml"
    path.parent.mkdir()
    path.write_text(PLAIN)
    with pytest.raises(Problem, match="systemd units cannot hold this path"):
        place_of(read_site(path), "pw")
