"""The commands for containers, as far as they need no engine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

import polyward_client.cli.containers  # noqa: F401  # which adds its commands
from polyward_client.cli.app import app
from polyward_shared.problems import Problem
from tests.client.containers.test_wanted import site_in


def invoked(*arguments: object) -> int:
    """The exit code. Raises `Problem`, as the command does."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, Problem):
        raise result.exception
    return result.exit_code


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")


@pytest.mark.parametrize(
    "arguments", [("up", "SITE"), ("down", "SITE"), ("logs", "SITE"), ("update", "SITE"), ("within", "SITE", "check")]
)
def test_without_an_engine_all_say_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    site = site_in(tmp_path)
    with pytest.raises(Problem, match="the Docker engine: cannot be reached"):
        invoked(*(str(site.path) if argument == "SITE" else argument for argument in arguments))


def test_parts_have_names(tmp_path: Path) -> None:
    site = site_in(tmp_path)
    for command in ("logs", "health"):
        with pytest.raises(Problem, match="expected gate, trainer or way"):
            invoked(command, site.path, "hub")


def test_health_is_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert invoked("health", site.path, "trainer") == 1
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(site.port)
        server.bind("trainer.sock")
        server.listen()
        assert invoked("health", site.path, "trainer") == 0
