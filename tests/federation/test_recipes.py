"""Every recipe, for two rounds: losses fall, the encoder travels, branches stay the site's own to the byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from polyward_client.trainer.journal import Epoch
from polyward_deploy.recipes.catalogue import find, names
from polyward_deploy.recipes.trial import (
    faults_of_branches,
    faults_of_encoders,
    faults_of_losses,
    first_and_last,
    shortened,
    tried,
)
from polyward_server.ledger import Ledger
from polyward_shared.states import read_stamp, read_state, write_state

QUICK = "slide_thumbnail"
OFTEN = {QUICK, "cardiac_ef", "inflate_2d3d", "stroke_cascade", "uncertain_cascade"}
EACH = [pytest.param(name, marks=() if name in OFTEN else pytest.mark.whole) for name in names()]


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_a_recipe_keeps_every_promise(name: str, tmp_path: Path) -> None:
    recipe = find(name)
    trial = tried(recipe, tmp_path / name)
    assert trial.faults == []
    assert len(trial.tasks) >= 2
    if len(recipe.study.tasks) > 1:
        assert len({tuple(tasks) for tasks in trial.tasks.values()}) > 1
    assert set(trial.losses) == {(site, task) for site, tasks in trial.tasks.items() for task in tasks}


@pytest.mark.slow
def test_what_breaks_a_promise_is_seen(tmp_path: Path) -> None:
    """The same looks, after the run has been meddled with: a branch, an update, an encoder that stood still."""
    recipe = find(QUICK)
    folder = tmp_path / QUICK
    assert tried(recipe, folder).faults == []
    shutil.rmtree(folder / "again")
    study = shortened(recipe.study)
    ledger = Ledger(folder / "run" / "ledger.db")
    encoders = [committed.encoder for committed in ledger.rounds(study.digest())]
    contributions = ledger.contributions(study.digest())
    ledger.close()
    sites = [one.site for one in contributions[1]]
    run = folder / "run"
    assert faults_of_encoders(run, study, encoders, contributions, sites) == []
    assert faults_of_encoders(run, study, [encoders[0]] * 3, contributions, sites)
    assert "took part" in faults_of_encoders(run, study, encoders, {1: contributions[1]}, sites)[0]

    site = sites[0]
    [update] = (run / "sites" / site / "port/spool").glob("*/update-000002-*")
    name, *_ = meddle(update)
    faults = faults_of_encoders(run, study, encoders, contributions, sites)
    assert faults == [f"round 2: {name} at the hub is not the mean of the sites' updates"]

    [entry] = (run / "sites" / site / "trainer/vault").glob("*/round-000002.safetensors")
    meddle(entry)
    file = folder / "generated" / "sites" / f"{site}.toml"
    assert faults_of_branches(folder, study, file) == [
        f"{site}: the branches are not those that the site makes by itself"
    ]


def meddle(path: Path) -> list[str]:
    """Changes the file's first array a little; its names."""
    arrays = {name: np.array(array) for name, array in read_state(path).items()}
    first = next(iter(arrays))
    arrays[first] += 0.01
    write_state(path, arrays, read_stamp(path))
    return list(arrays)


def test_losses_are_those_of_a_tasks_first_and_last_epoch() -> None:
    epochs = [
        Epoch(1, "together", 1, {"a": 4.0, "b": 1.0}, {}, {}),
        Epoch(1, "together", 2, {"a": 9.0}, {}, {}),
        Epoch(2, "final", 1, {"a": 2.0}, {}, {}),
    ]
    assert first_and_last(epochs, ["a", "b", "c"]) == {"a": (4.0, 2.0), "b": (1.0, 1.0)}


def test_a_site_whose_losses_do_not_fall_in_the_mean_is_named() -> None:
    losses = {("north", "a"): (1.0, 0.5), ("north", "b"): (1.0, 1.4), ("south", "a"): (2.0, 2.0)}
    assert faults_of_losses(losses) == ["south: the losses are 1.000 of the first"]
