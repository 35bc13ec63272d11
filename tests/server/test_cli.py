"""`polyward-hub` as a coordinator types it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from polyward_server.cli import app, sentence
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.records import Event, Round
from polyward_server.registry import Registry
from polyward_shared import pki
from polyward_shared.messages import Metric, Stage
from polyward_shared.states import write_state
from polyward_shared.study import read_study

STUDY = 'id = "toy"\nrounds = 3\n[image]\nsize = [32, 32]\n[tasks.mask]\nkind = "segmentation"\n'


def polyward(*arguments: str | Path) -> str:
    """What one command prints, on both streams. Raises what it raises."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    polyward("init", tmp_path / "hub", "--name", "north", "--port", "9443")
    return Hub(tmp_path / "hub")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def registered(hub: Hub, name: str) -> str:
    public = hub.folder / f"{name}.pub"
    public.write_bytes(pki.public_pem(pki.new_key()))
    return polyward("register", hub.folder, name, public)


def test_from_nothing_to_a_queued_study(hub: Hub, study: Path) -> None:
    assert (hub.file.name, hub.file.port) == ("north", 9443)
    assert "registered riverside, fingerprint" in registered(hub, "riverside")
    told = polyward("run", hub.folder, study, "--no-follow")
    assert "the hub is not running" in told
    ledger = Ledger(hub.ledger)
    [digest] = ledger.studies_in("queued")
    assert digest in told
    shown = polyward("status", hub.folder)
    assert "north not serving" in shown
    assert "site riverside: key" in shown
    assert "0/3" in shown
    ledger.commit_round(digest, Round(0, "s" * 64, "e" * 64, 0.0))
    ledger.commit_round(digest, Round(1, "s" * 64, "f" * 64, 0.0))
    assert "1/3" in polyward("status", hub.folder)
    polyward("end", hub.folder, study)
    assert ledger.study_state(digest)[0] == "stopped"
    polyward("run", hub.folder, study, "--no-follow")
    assert ledger.study_state(digest) == ("queued", "")
    ledger.close()


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("failed", 2)])
def test_following_ends_with_the_study(hub: Hub, study: Path, state: str, code: int) -> None:
    registered(hub, "riverside")
    polyward("run", hub.folder, study, "--no-follow")
    ledger = Ledger(hub.ledger)
    [digest] = ledger.studies_in("queued")
    ledger.note(Event(digest, 1, "riverside", "reported", "mask dice 0.500 (n=[7])"))
    ledger.set_state(digest, "running")
    end = threading.Timer(0.3, ledger.set_state, (digest, state, "why"))
    end.start()
    result = CliRunner().invoke(app, ["run", str(hub.folder), str(study)])
    assert result.exit_code == code
    assert "riverside        reported mask dice 0.500 (n=[7])" in result.output
    assert f"{state} why" in result.output
    end.join()
    ledger.close()


def test_an_encoder_is_imported_under_its_digest(hub: Hub, tmp_path: Path) -> None:
    write_state(tmp_path / "a.safetensors", {"encoder.w": np.ones(3, np.float32)}, {})
    digest = polyward("import", hub.folder, tmp_path / "a.safetensors").strip()
    assert Registry(hub.registry).load(digest)[1].tolist() == [1, 1, 1]


def test_events_as_sentences() -> None:
    assert sentence(Event("s", 3, "a", "asked", "attempt 1")) == ""
    assert sentence(Event("s", 3, "", "committed", "e" * 64)) == f"round   3  hub              encoder {'e' * 16}"
    assert sentence(Event("s", 12, "a", "refused", "policy")) == "round  12  a                refused policy"


def test_gains_need_figures_of_both_models(hub: Hub, study: Path) -> None:
    digest = Ledger(hub.ledger).queue(read_study(study))
    refused = CliRunner().invoke(app, ["gains", str(hub.folder), str(study)])
    assert "no site has reported figures of both models" in str(refused.exception)
    rows = [
        ("north", Metric("mask", "test", stage, "dice", value, 30))
        for stage, value in ((Stage.TRAINED, 0.75), (Stage.ALONE, 0.5))
    ]
    Ledger(hub.ledger).commit_round(digest, Round(1, "s" * 64, "e" * 64, 1.0), figures=rows)
    shown = polyward("gains", hub.folder, study)
    assert "+0.250" in shown
    assert "federated better in 1 of 1" in shown
