"""The queue at the command line: drafts, order, pause and resume, extensions, and which study is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w
from typer.testing import CliRunner

from polyward_server.cli.app import app
from polyward_server.cli.naming import named
from polyward_server.hub import Hub, init
from polyward_server.ledger import Ledger
from polyward_server.records import Round, State
from polyward_shared.problems import Problem
from polyward_shared.study import Study, read_study
from tests.support.toy_trainer import toy_study


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return init(tmp_path / "hub", name="north", host="127.0.0.1", port=9443)


def written(folder: Path, **changes: object) -> tuple[Study, Path]:
    study = toy_study(**changes)
    path = folder / f"{study.id}-{study.rounds}.toml"
    path.write_text(tomli_w.dumps(study.model_dump(mode="json", exclude_none=True)))
    return study, path


def polyward(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_course_of_a_study(hub: Hub, tmp_path: Path) -> None:
    study, path = written(tmp_path, id="breast")
    other, second = written(tmp_path, id="lung")
    ledger = Ledger(hub.ledger)
    assert "nothing waits" in polyward("queue", hub.folder)
    assert study.digest() in polyward("draft", hub.folder, path).replace("\n", "")
    assert "draft" in polyward("status", hub.folder)
    ledger.queue(study)
    ledger.queue(other)
    shown = polyward("queue", hub.folder)
    assert shown.index("breast") < shown.index("lung")
    shown = polyward("queue", hub.folder, "lung", "--first")
    assert shown.index("lung") < shown.index("breast")
    with pytest.raises(Problem, match="either --first or --priority"):
        polyward("queue", hub.folder, "lung")
    ledger.set_state(study.digest(), State.RUNNING)
    polyward("pause", hub.folder, study.digest()[:8])
    assert ledger.study_state(study.digest())[0] == State.PAUSED
    with pytest.raises(Problem, match="is paused already"):
        polyward("pause", hub.folder, path)
    with pytest.raises(Problem, match="can become resuming, stopped"):
        ledger.set_state(study.digest(), State.RUNNING)
    polyward("resume", hub.folder, "breast")
    assert ledger.study_state(study.digest())[0] == State.RESUMING
    polyward("end", hub.folder, "breast", "--now")
    assert ledger.study_state(study.digest()) == (State.STOPPED, "at once")
    actors = {noted.event.actor for noted in ledger.noted() if noted.event.what in {"paused", "resuming", "stopped"}}
    assert actors == {"command line"}
    _, draft = written(tmp_path, id="skin")
    polyward("draft", hub.folder, draft)
    polyward("discard", hub.folder, "skin")
    assert "skin" not in polyward("status", hub.folder)
    second.unlink()
    ledger.close()


def test_a_study_is_meant_by_file_id_or_digest(hub: Hub, tmp_path: Path) -> None:
    ledger = Ledger(hub.ledger)
    first, path = written(tmp_path, id="breast", rounds=3)
    second, _ = written(tmp_path, id="breast", rounds=4)
    _, unknown = written(tmp_path, id="breast", rounds=5)
    ledger.queue(first)
    assert {named(ledger, word) for word in (str(path), "breast", first.digest()[:5])} == {first.digest()}
    ledger.queue(second)
    with pytest.raises(Problem, match=f"means any of breast {min(first.digest(), second.digest())[:8]}, breast"):
        named(ledger, "breast")
    for word in (str(unknown), "lung", "abc", "%"):
        with pytest.raises(Problem, match="no study here is called so"):
            named(ledger, word)
    ledger.close()


def test_an_extension_is_written_for_sites_to_approve(hub: Hub, tmp_path: Path) -> None:
    study, _ = written(tmp_path, id="breast")
    ledger = Ledger(hub.ledger)
    ledger.queue(study)
    ledger.commit_round(study.digest(), Round(1, "1" * 64, "e" * 64, 0.0))
    output = tmp_path / "longer.toml"
    told = polyward("extend", hub.folder, "breast", "--rounds", 7, "--output", output)
    longer = read_study(output)
    assert (longer.id, longer.rounds, longer.encoder.start) == ("breast-2", 7, "1" * 64)
    assert longer.digest() in told.replace("\n", "")
    assert "new branches" in told
    assert "has not ended" in told
    assert ledger.study_state(longer.digest())[0] == State.DRAFT
    with pytest.raises(Problem, match="is there already"):
        polyward("extend", hub.folder, "breast", "--rounds", 7, "--output", output)
    ledger.close()
