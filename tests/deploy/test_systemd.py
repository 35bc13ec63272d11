"""The systemd units that no program prints: as hardened as those of a node, and what systemd understands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

import polyward_client.cli  # noqa: F401  # which adds its commands
import polyward_server.cli  # noqa: F401
from polyward_client.cli.app import app as node_app
from polyward_client.service import HARDENED
from polyward_server.cli.app import app as hub_app

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
NAMES = ("polyward-hub@.service", "polyward-containers@.service")
PROGRAMS = {"polyward_client": node_app, "polyward_server": hub_app}


def settings(text: str) -> list[tuple[str, str]]:
    lines = (line for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_hardened(name: str) -> None:
    here = dict(settings((UNITS / name).read_text()))
    wanted = dict(settings(HARDENED)) | {"ProtectHome": "yes", "RestrictNamespaces": "yes", "PrivateDevices": "yes"}
    assert {key: here.get(key) for key in wanted} == wanted
    assert here["User"] not in {"", "root"}
    assert len(here["ReadWritePaths"].split()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_it_starts_what_there_is(name: str) -> None:
    for key, value in settings((UNITS / name).read_text()):
        if key.startswith("Exec"):
            _, option, module, command, place = value.split()
            assert option == "-m"
            assert command in get_command(PROGRAMS[module]).commands  # type: ignore[attr-defined]
            assert "%i" in place


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
@pytest.mark.parametrize("name", NAMES)
def test_systemd_understands_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "docker.service").write_text("[Service]\nExecStart=/bin/true\n")
    text = (UNITS / name).read_text().replace("/opt/polyward/bin/python", shutil.which("true") or "")
    unit = tmp_path / name.replace("@", "@north")
    unit.write_text(text)
    assert verified(unit) == ""
    unit.write_text(text.replace("ProtectSystem=strict", "ProtectSystem=hard"))
    assert "protect system" in verified(unit)


def verified(unit: Path) -> str:
    """What systemd says of a unit file and of those beside it."""
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    return done.stderr
