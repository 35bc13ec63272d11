"""A balancer's memory is the site's own: it goes into the vault, never onto the wire, and a restart changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyward_client.trainer.dataset import Dataset, load_dataset
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import (
    MultiTaskModel,
    load_personal,
    load_shared,
    personal_arrays,
    schema_of,
    shared_arrays,
)
from polyward_client.trainer.round import Run, fit_statistics, train_round
from polyward_client.trainer.vault import Vault
from polyward_shared.states import Arrays
from polyward_shared.study import Study
from polyward_shared.training import BALANCERS
from tests.support.images import make_study, write_site

NAMES = ("bright", "mask")
LEARNING = ("uncertainty", "imtl_l", "dwa", "famo", "gradnorm", "db_mtl")


def study_of(kind: str, **changes: Any) -> Study:
    return make_study(
        tasks=NAMES,
        balancer={"kind": kind},
        training={"schedule": "fedper", "batch": 6, "epochs": 2},
        evaluation={"every": 99},
        rounds=99,
        **changes,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    site = write_site(Path(tmp_path_factory.mktemp("site")), tasks=NAMES, images=10)
    return load_dataset(read_manifest(site, study_of("equal"), NAMES), study_of("equal"))


def trained(model: MultiTaskModel, data: Dataset, number: int) -> None:
    run = Run(study=model.study, site="north", round=number, device=torch.device("cpu"))
    fit_statistics(model, data)
    train_round(model, data, run)


def restarted(study: Study, shared: Arrays, personal: Arrays) -> MultiTaskModel:
    model = MultiTaskModel(study, NAMES)
    load_shared(model, study, shared)
    load_personal(model, study, personal)
    return model


@pytest.mark.parametrize("branches", ["site", "task"])
@pytest.mark.parametrize("kind", BALANCERS)
def test_the_memory_is_personal_and_never_in_the_schema(kind: str, branches: str) -> None:
    study = study_of(kind, sharing={"branches": branches})
    model = MultiTaskModel(study, NAMES)
    memory = {name for name in model.state_dict() if name.startswith("balancer.")}
    assert memory == {f"balancer.{name}" for name in model.balancer.state_dict()} != set()
    assert memory <= personal_arrays(model, study).keys()
    assert not any("balancer" in spec.name for spec in schema_of(model, study).arrays)
    plain = make_study(tasks=NAMES, sharing={"branches": branches})
    assert schema_of(model, study) == schema_of(MultiTaskModel(plain, NAMES), plain)


@pytest.mark.parametrize("kind", LEARNING)
def test_a_restart_between_rounds_gives_the_same_bytes(tmp_path: Path, data: Dataset, kind: str) -> None:
    study = study_of(kind)
    model = MultiTaskModel(study, NAMES)
    trained(model, data, 1)
    vault = Vault(tmp_path / "vault", study.digest())
    vault.keep(personal_arrays(model, study), round=1, state_digest="", tasks=NAMES)
    entry = vault.latest_before(2)
    assert entry is not None
    shared, kept = shared_arrays(model, study), vault.arrays(entry)
    again = restarted(study, shared, kept)
    trained(model, data, 2)
    trained(again, data, 2)
    for name, value in model.state_dict().items():
        assert torch.equal(value.nan_to_num(-7), again.state_dict()[name].nan_to_num(-7)), name

    fresh = personal_arrays(MultiTaskModel(study, NAMES), study)
    forgotten = {name: fresh[name] if name.startswith("balancer.") else array for name, array in kept.items()}
    other = restarted(study, shared, forgotten)
    trained(other, data, 2)
    encoder = shared_arrays(model, study)
    assert any(not np.array_equal(encoder[name], array) for name, array in shared_arrays(other, study).items())


def test_a_memory_as_wide_as_the_encoder_survives_the_vault_before_and_after_it_has_grown(
    tmp_path: Path, data: Dataset
) -> None:
    study = study_of("db_mtl")
    model, vault = MultiTaskModel(study, NAMES), Vault(tmp_path / "vault", study.digest())
    width = sum(p.numel() for p in model.encoder.parameters())
    for number, wanted in ((1, 0), (2, width)):
        vault.keep(personal_arrays(model, study), round=number, state_digest="", tasks=NAMES)
        entry = vault.latest_before(number + 1)
        assert entry is not None
        again = restarted(study, shared_arrays(model, study), vault.arrays(entry))
        assert again.balancer.get_buffer("averages").shape == (len(NAMES), wanted)
        trained(model, data, number)
    back = personal_arrays(MultiTaskModel(study, NAMES), study)
    load_personal(model, study, back)  # a trainer that starts anew after it has trained
    assert model.balancer.get_buffer("averages").shape == (len(NAMES), 0)
