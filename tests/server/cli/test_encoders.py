"""The registry as a coordinator types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from polyward_client.cli.app import app as node
from polyward_server.cli.app import app
from polyward_server.hub import Hub
from polyward_server.registry import Registry
from polyward_shared import pki
from polyward_shared.problems import Problem
from polyward_shared.states import write_state
from tests.server.registry.conftest import Shelf, filled


def polyward(*arguments: str | Path) -> str:
    """What one command prints, on both streams, on a wide terminal. Raises what it raises."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    polyward("init", tmp_path / "hub", "--name", "north", "--port", "9443")
    return Hub(tmp_path / "hub")


@pytest.fixture
def shelf(hub: Hub) -> Shelf:
    assert not isinstance(hub.ledger, str)
    made = filled(hub.ledger, hub.registry)
    made.ledger.close()
    return made


def test_the_list_shows_the_newest_and_the_named(hub: Hub, shelf: Shelf) -> None:
    first, second, third = shelf.pilot
    polyward("tag", hub.folder, second[:10], "best")
    shown = polyward("encoders", hub.folder)
    assert all(state[:12] in shown for state in (second, third, shelf.branched[1]))
    assert first[:12] not in shown
    assert "best" in shown
    assert first[:12] in polyward("encoders", hub.folder, "--all")
    assert {row["state"] for row in json.loads(polyward("encoders", hub.folder, "--json"))["rows"]} == {
        *shelf.pilot,
        *shelf.branched,
    }
    assert "best was" in polyward("untag", hub.folder, "best")
    with pytest.raises(Problem, match="is the name of no encoder"):
        polyward("encoder", hub.folder, "best")


def test_one_encoder_with_its_ancestry(hub: Hub, shelf: Shelf) -> None:
    shown = polyward("encoder", hub.folder, shelf.pilot[1])
    for part in ("north", "75.0%", "0.625", "study pilot", "rounds 0 to 1, 2 sites, mean", "drawn from seed 5"):
        assert part in shown
    assert json.loads(polyward("encoder", hub.folder, shelf.pilot[1], "--json"))["lineage"]["round"] == 1


def test_a_release_is_checked_by_hub_and_hospital_without_a_hub(hub: Hub, shelf: Shelf, tmp_path: Path) -> None:
    told = polyward("release", hub.folder, shelf.encoders[1], "follow-1.0", "--notes", "[b]careful[/b]")
    file = hub.folder / "releases" / "follow-1.0.json"
    fingerprint = pki.authority_fingerprint(pki.read_certificate(hub.ca))
    assert str(file) in told
    assert fingerprint in told
    shown = polyward("verify-release", file, "--fingerprint", fingerprint)
    for part in ("good", "north", shelf.encoders[1], "[b]careful[/b]", "study follow-up", "study pilot"):
        assert part in shown
    said = json.loads(polyward("verify-release", file, "--authority", hub.ca, "--json"))
    assert said["encoder"] == shelf.encoders[1]
    result = CliRunner().invoke(node, ["verify-release", str(file), "--fingerprint", fingerprint])
    assert result.exit_code == 0, result.output
    assert "follow-1.0" in result.output
    polyward("write-release", hub.folder, "follow-1.0", tmp_path / "again")
    assert (tmp_path / "again" / "follow-1.0.json").read_bytes() == file.read_bytes()


def test_a_release_travels_to_another_hub(hub: Hub, shelf: Shelf, tmp_path: Path) -> None:
    polyward("release", hub.folder, shelf.pilot[2], "pilot-1.0", "--folder", tmp_path)
    polyward("init", tmp_path / "other", "--name", "[red]south", "--port", "9543")
    file = tmp_path / "pilot-1.0.safetensors"
    with pytest.raises(Problem, match="to be told whom you trust"):
        polyward("import", tmp_path / "other", file)
    told = polyward("import", tmp_path / "other", file, "--authority", hub.ca)
    assert shelf.pilot[2] in told
    assert "pilot-1.0, signed by north" in told
    shown = polyward("encoder", tmp_path / "other", shelf.pilot[2][:9])
    assert "imported from pilot-1.0.safetensors" in shown
    assert "study pilot" in shown
    assert "(as north says)" in shown


def test_an_export_and_its_return(hub: Hub, shelf: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    assert shelf.encoders[1] in polyward("export", hub.folder, shelf.branched[1], file)
    with pytest.raises(Problem, match="exists already"):
        polyward("export", hub.folder, shelf.branched[1], file)
    assert polyward("import", hub.folder, file).strip() == shelf.encoders[1]
    assert Registry(hub.registry).load(shelf.encoders[1])[1].size == 9


def test_a_comparison(hub: Hub, shelf: Shelf, tmp_path: Path) -> None:
    shown = polyward("compare-encoders", hub.folder, shelf.pilot[0], shelf.pilot[2])
    for part in ("a: ", "pilot", "encoder.w", "100.0%", "█" * 20):
        assert part in shown
    write_state(tmp_path / "[x].safetensors", {"encoder.[red]": np.ones(3, np.float32)}, {})
    other = polyward("import", hub.folder, tmp_path / "[x].safetensors").strip()
    shown = polyward("compare-encoders", hub.folder, shelf.pilot[0], other)
    assert "not the same kind of encoder" in shown
    assert "only in b: encoder.[red]" in shown
    assert "file [x].safetensors" in shown
    found = json.loads(polyward("compare-encoders", hub.folder, shelf.pilot[0], shelf.pilot[1], "--json"))
    assert found["comparison"]["whole"]["greatest"] == 1.0
