"""What crosses, by the study's choices: scopes of branches, affine parameters and statistics of norms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from polyward_client.trainer.dataset import load_dataset
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import (
    MultiTaskModel,
    load_personal,
    load_shared,
    personal_arrays,
    schema_of,
    shared_arrays,
)
from polyward_client.trainer.round import Run, train_phase
from polyward_client.trainer.schedule import Phase
from polyward_shared.problems import Problem
from polyward_shared.reading import validated
from polyward_shared.schema import group_of
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

BATCH = {"norm": "batch"}
FEDHCA2 = {"rule": "fedhca2", "weighting": "uniform"}
NAMES = ("bright", "grade", "mask")
STRANGER = "tests.client.trainer.encoders.strangers"


def crossing(**changes: Any) -> set[str]:
    study = make_study(tasks=NAMES, **changes)
    return set(shared_arrays(MultiTaskModel(study, NAMES), study))


def encoder_names(kind: str, **changes: Any) -> set[str]:
    """Names of norms (affine) or of weights in the encoder that cross."""
    found = {name for name in crossing(**changes) if group_of(name) == "encoder"}
    norms = {name for name in found if ".norm" in name}
    return norms if kind == "affine" else found - norms


@pytest.mark.parametrize(
    ("norm", "affine", "crosses"),
    [
        ("group", "auto", True),
        ("group", "shared", True),
        ("group", "site", False),
        ("batch", "auto", False),
        ("batch", "shared", True),
        ("batch", "site", False),
    ],
)
def test_scales_and_shifts_of_norms_cross_where_the_study_says(norm: str, affine: str, crosses: bool) -> None:
    changes = {"encoder": {"norm": norm}, "sharing": {"norm_affine": affine}}
    assert bool(encoder_names("affine", **changes)) == crosses
    assert encoder_names("weight", **changes) == encoder_names("weight")


def test_statistics_cross_as_moments_in_a_group_of_their_own() -> None:
    found = crossing(encoder=BATCH, sharing={"norm_statistics": "shared"})
    moments = {name for name in found if group_of(name) == "statistics"}
    assert "statistics.encoder.layers.0.blocks.0.norm1.mean" in moments
    assert {name.rpartition(".")[2] for name in moments} == {"mean", "square"}
    assert found - moments == crossing(encoder=BATCH)
    assert not any("running" in name or "tracked" in name for name in found)


@pytest.mark.parametrize("statistics", ["site", "shared"])
def test_what_does_not_cross_is_kept(statistics: str) -> None:
    study = make_study(tasks=NAMES, encoder=BATCH, sharing={"norm_statistics": statistics})
    model = MultiTaskModel(study, NAMES)
    kept, state = set(personal_arrays(model, study)), set(model.state_dict())
    assert any("num_batches_tracked" in name for name in kept)
    assert any("running_mean" in name for name in kept) == (statistics == "site")
    assert {n for n in state if "running" not in n} <= kept | set(shared_arrays(model, study))


@pytest.mark.parametrize("statistics", ["site", "shared"])
@pytest.mark.parametrize("rule", ["mean", "precision"])
def test_a_trained_batch_norm_comes_back_from_both_halves(tmp_path: Path, statistics: str, rule: str) -> None:
    study = make_study(tasks=NAMES, encoder=BATCH, sharing={"norm_statistics": statistics}, aggregation={"rule": rule})
    site = write_site(tmp_path, tasks=NAMES)
    data = load_dataset(read_manifest(site, study, NAMES), study)
    one, two = MultiTaskModel(study, NAMES), MultiTaskModel(study, NAMES)
    run = Run(study=study, site="north", round=1, device=torch.device("cpu"))
    train_phase(one, data, run, Phase("together", 2, {"encoder": 0.01, "personal": 0.01}))
    load_shared(two, study, shared_arrays(one, study))
    load_personal(two, study, personal_arrays(one, study))
    trained, first = one.state_dict(), MultiTaskModel(study, NAMES).state_dict()
    for name, value in two.state_dict().items():
        exact = "running_var" not in name  # which rounding of moments touches
        assert torch.allclose(value, trained[name], rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6), name
    assert not torch.equal(
        first["encoder.layers.0.blocks.0.norm1.running_mean"], trained["encoder.layers.0.blocks.0.norm1.running_mean"]
    )


def test_while_the_encoder_stands_still_its_statistics_do_too(tmp_path: Path) -> None:
    study = make_study(tasks=NAMES, encoder=BATCH)
    site = write_site(tmp_path, tasks=NAMES)
    data = load_dataset(read_manifest(site, study, NAMES), study)
    model = MultiTaskModel(study, NAMES)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    run = Run(study=study, site="north", round=1, device=torch.device("cpu"))
    train_phase(model, data, run, Phase("branches", 2, {"personal": 0.01}))
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())
    train_phase(model, data, run, Phase("encoder", 2, {"encoder": 0.01}))
    counters = {int(v) for name, v in model.encoder.state_dict().items() if name.endswith("tracked")}
    assert counters == {6}  # 12 images in batches of 4, twice: as many as there were batches


@pytest.mark.parametrize("balancer", ["equal", "famo"])
def test_a_balancer_that_looks_twice_counts_once(tmp_path: Path, balancer: str) -> None:
    study = make_study(tasks=NAMES, encoder=BATCH, balancer={"kind": balancer})
    site = write_site(tmp_path, tasks=NAMES)
    data = load_dataset(read_manifest(site, study, NAMES), study)
    model = MultiTaskModel(study, NAMES)
    run = Run(study=study, site="north", round=1, device=torch.device("cpu"))
    train_phase(model, data, run, Phase("together", 1, {"encoder": 0.01, "personal": 0.01}))
    counters = {int(v) for name, v in model.encoder.state_dict().items() if name.endswith("tracked")}
    assert counters == {3}


@pytest.mark.parametrize("scope", ["task", "taskset"])
def test_branches_cross_whole_without_their_buffers(scope: str) -> None:
    found = crossing(sharing={"branches": scope})
    study = make_study(tasks=NAMES)
    branches = {n for n, _ in MultiTaskModel(study, NAMES).named_parameters() if n.startswith("branches.")}
    assert {name for name in found if name.startswith("branches.")} == branches
    assert crossing() == found - branches


def test_with_decoders_that_learn_from_other_tasks_last_layers_stay() -> None:
    study = make_study(tasks=NAMES, aggregation=FEDHCA2)
    model = MultiTaskModel(study, NAMES)
    found = {name for name in shared_arrays(model, study) if name.startswith("branches.")}
    stay = {name for name, _ in model.named_parameters() if name.startswith("branches.")} - found
    assert {name.split(".")[2] for name in stay} == {"head"}
    assert {name.split(".")[2] for name in found} >= {"decoder"}
    assert {group_of(name) for name in found} == {f"branches.{task}" for task in NAMES}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sharing": {"branches": "task"}},
        {"sharing": {"branches": "taskset"}, "aggregation": {"rule": "precision"}},
        {"aggregation": FEDHCA2},
        {"aggregation": {"rule": "precision"}, "encoder": BATCH, "sharing": {"norm_statistics": "shared"}},
    ],
)
def test_groups_are_those_of_the_study_in_the_schemas_order(changes: dict[str, Any]) -> None:
    study = make_study(**changes)
    model = MultiTaskModel(study, NAMES)
    schema = schema_of(model, study)
    assert list(schema.groups) == ["encoder", *sorted(study.groups(NAMES) - {"encoder"})]
    assert [spec.name for spec in schema.arrays] == list(shared_arrays(model, study))
    if "precision" in schema.groups:
        names = [spec.name for spec in schema.group("encoder").arrays]
        assert [spec.name for spec in schema.group("precision").arrays] == [f"precision.{name}" for name in names]


@pytest.mark.parametrize("class_name", ["Tiny", "Normed"])
def test_statistics_that_an_encoder_does_not_have_cannot_cross(class_name: str) -> None:
    text = make_study(tasks=["bright"]).model_dump(mode="json")
    text["encoder"] = {"kind": "custom", "path": f"{STRANGER}:{class_name}", "groups": 2}
    text["sharing"] = {"norm_statistics": "shared"}
    study = validated(text, Study, where="study.toml")
    model = MultiTaskModel(study, ("bright",), allowed=(f"{STRANGER}:{class_name}",))
    if class_name == "Tiny":
        with pytest.raises(Problem, match="wants statistics to cross, but the model has no such values"):
            schema_of(model, study)
    else:
        assert [spec.name for spec in schema_of(model, study).group("statistics").arrays] == [
            "statistics.encoder.norm.mean",
            "statistics.encoder.norm.square",
        ]


def test_the_idle_half_of_a_vision_transformer_never_crosses() -> None:
    text = make_study(tasks=["bright"], image={"size": [32, 32]}).model_dump(mode="json")
    text["encoder"] = {"kind": "vit", "width": 16, "layers": 1, "patch": 8}
    study = Study.model_validate(text)
    model = MultiTaskModel(study, ("bright",))
    assert model.idle
    assert not model.idle & (set(shared_arrays(model, study)) | set(personal_arrays(model, study)))
