"""What was written is read back: the files by their format, MLflow's store by MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from polyward_server.cli.app import app
from polyward_server.hub import Hub, free_port, init
from polyward_server.ledger import Ledger
from polyward_server.records import Contribution, Pair, Round, Signals
from polyward_server.tracking.figures import HUB, Figure, figures
from polyward_server.tracking.tensorboard import TensorBoard, read_events
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Problem
from tests.support.toy_trainer import toy_study

STUDY = toy_study(id="toy")
DIGEST = STUDY.digest()
NAME = f"toy-{DIGEST[:8]}"


def commit(ledger: Ledger, number: int) -> None:
    """A round with two sites, one of which also trained alone."""
    state = f"{number:064x}"
    if number == 0:
        ledger.commit_round(DIGEST, Round(0, state, state, 0.5))
        return
    north = Metric("mask", "val", Stage.TRAINED, "dice", 0.5 + number / 10, 8, 0.4, 0.9)
    alone = Metric("mask", "val", Stage.ALONE, "dice", 0.5, 8)
    south = Metric("grade", "val", Stage.TRAINED, "auroc", 0.75, 20)
    ledger.commit_round(
        DIGEST,
        Round(number, state, state, 2.0, signals=Signals(step=0.25, drift=0.5)),
        [
            Contribution("north", 1, 8, 1.5, state, 100, 40, 2.0, share=0.6),
            Contribution("south", 1, 20, 2.5, state, 100, 40, 3.0),
        ],
        [("north", north), ("north", alone), ("south", south)],
        [Pair("north", "south", -0.25, 0.75)],
    )


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    hub = init(tmp_path / "hub", name="test", host="127.0.0.1", port=free_port())
    ledger = Ledger(hub.ledger)
    ledger.queue(STUDY)
    for number in range(3):
        commit(ledger, number)
    ledger.close()
    return hub


def track(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["track", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def written(folder: Path) -> list[tuple[str, str, int, float]]:
    """Every number in the event files below, by run."""
    return [
        (str(path.parent.relative_to(folder)), value.tag, event.step, round(value.simple_value, 6))
        for path in sorted(folder.rglob("*tfevents*"))
        for event in read_events(path)
        for value in event.summary.value
    ]


def told(hub: Hub) -> list[Figure]:
    ledger = Ledger(hub.ledger)
    found = list(figures(ledger, STUDY))
    ledger.close()
    return found


def test_every_figure_has_one_place(hub: Hub) -> None:
    found = told(hub)
    known = {(each.run, each.name, each.step): each.value for each in found}
    assert len(known) == len(found)
    assert known["sites/north", "mask/val/trained/dice", 2] == pytest.approx(0.7)
    assert known["sites/north", "mask/val/trained/dice.cases", 2] == 8
    assert known["sites/north", "mask/val/trained/dice.high", 1] == 0.9
    assert known["sites/north", "mask/val/trained/gain", 2] == pytest.approx(0.2)
    assert ("sites/south", "grade/val/trained/gain", 2) not in known
    assert known["sites/north", "update/share", 1] == 0.6
    assert ("sites/south", "update/share", 1) not in known
    assert known["sites/south", "update/norm", 1] == 2.5
    assert known[HUB, "encoder/drift", 1] == 0.5
    assert known[HUB, "conflict/cosine/north/south", 2] == -0.25
    assert known[HUB, "round/seconds", 0] == 0.5
    times = {each.step: each.at for each in found}
    assert times[0] < times[1] < times[2]


def test_tensorboard_has_each_figure_once_however_often_it_is_asked(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "board"
    first = track(hub.folder, "toy", "--tensorboard", folder)
    expected = sorted((each.run, each.name, each.step, round(each.value, 6)) for each in told(hub))
    assert f"{len(expected)} new figures of toy" in first
    assert sorted(written(folder / NAME)) == expected
    assert "0 new figures" in track(hub.folder, "toy", "--tensorboard", folder)
    ledger = Ledger(hub.ledger)
    commit(ledger, 3)
    ledger.set_state(DIGEST, "stopped")
    ledger.close()
    track(hub.folder, "toy", "--tensorboard", folder, "--follow")  # ends, for the study has
    expected = sorted((each.run, each.name, each.step, round(each.value, 6)) for each in told(hub))
    assert sorted(written(folder / NAME)) == expected
    assert {step for _, _, step, _ in expected} == {0, 1, 2, 3}


def test_what_a_torn_file_lost_is_written_again(hub: Hub, tmp_path: Path) -> None:
    board, rows = TensorBoard(tmp_path), told(hub)
    board.add(board.missing(rows))
    board.close()
    [path] = (tmp_path / "sites" / "north").iterdir()
    whole = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    again = TensorBoard(tmp_path)
    [lost] = again.missing(rows)
    again.add([lost])
    again.close()
    assert len(list(path.parent.iterdir())) == 2
    assert sorted(written(tmp_path)) == sorted(whole)


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # of MLflow's own tables
def test_mlflow_has_each_figure_once_however_often_it_is_asked(hub: Hub, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    track(hub.folder, "toy", "--mlflow", address)
    assert "0 new figures" in track(hub.folder, "toy", "--mlflow", address)
    from mlflow import MlflowClient
    from mlflow.telemetry.utils import is_telemetry_disabled

    client = MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    found = [
        (run.info.run_name, key, each.step, each.value)
        for run in client.search_runs([experiment.experiment_id])
        for key in run.data.metrics
        for each in client.get_metric_history(run.info.run_id, key)
    ]
    assert sorted(found) == sorted((each.run, each.name, each.step, each.value) for each in told(hub))
    assert is_telemetry_disabled()


def test_mistakes_are_told(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def problem(*arguments: str | Path) -> str:
        result = CliRunner().invoke(app, ["track", *map(str, arguments)])
        assert isinstance(result.exception, Problem)
        return str(result.exception)

    assert "nothing says where to" in problem(hub.folder, "toy")
    secret = problem(hub.folder, "toy", "--mlflow", "https://ada:hunter2@mlflow.example.org")
    assert "MLFLOW_TRACKING_PASSWORD" in secret
    assert "hunter2" not in secret
    for name in ("polyward_server.tracking.tensorboard", "tensorboardX", "tensorboardX.event_file_writer"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    assert "polyward[tracking]" in problem(hub.folder, "toy", "--tensorboard", tmp_path)
