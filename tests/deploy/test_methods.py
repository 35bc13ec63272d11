"""The catalogue of methods: each is a valid study, changes what it names and nothing else, and has as much work."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polyward_deploy.arms import variation
from polyward_deploy.methods import METHODS, equalised, passes
from polyward_shared.aggregation import RULES, Aggregation, Participation, Sharing
from polyward_shared.encoders import SegRes
from polyward_shared.problems import Problem
from polyward_shared.study import Image, Study
from polyward_shared.tasks import Binary, Segmentation
from polyward_shared.training import Personal, Training

PLAIN = Study(
    id="toy",
    rounds=2,
    image=Image(size=(64, 64)),
    tasks={"lesion": Binary(kind="binary"), "outline": Segmentation(kind="segmentation")},
    training=Training(epochs=4),
    personal=Personal(alone=False),
)
REP = PLAIN.model_copy(update={"training": Training(schedule="fedrep", epochs=1, branch_epochs=3)})
# what one method of the catalogue or another changes, all at once
SPICED = PLAIN.model_copy(
    update={
        "training": Training(epochs=4, proximal=0.5, contrast=2.0, final_parts="all"),
        "personal": Personal(alone=True, ditto=0.3),
        "sharing": Sharing(branches="task", norm_affine="site", private_encoder=True),
        "aggregation": Aggregation(weighting="tasks", optimiser="adam", rate=0.07, largest_share=0.5, clip=2.0),
    }
)


def changes(before: Study, after: Study) -> dict[str, Any]:
    """Every key whose value differs, as `table.key`."""
    one, other = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {
        f"{table}.{key}": value
        for table, keys in other.items()
        if isinstance(keys, dict)
        for key, value in keys.items()
        if one[table].get(key) != value
    }


@pytest.mark.parametrize("study", [PLAIN, REP, SPICED], ids=["plain", "fedrep", "spiced"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_a_valid_study_without_models_beside_it(name: str, study: Study) -> None:
    varied = METHODS[name].of(study)
    assert Study.model_validate_json(json.dumps(varied.model_dump(mode="json"))) == varied
    assert not varied.personal.alone
    assert (varied.personal.ditto > 0) == (name == "ditto")
    assert varied.aggregation.rule == METHODS[name].rule
    assert passes(varied) == passes(study) == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fedper", {}),
        ("fedrep", {"training.schedule": "fedrep", "training.branch_epochs": 2, "training.epochs": 2}),
        ("fedbabu", {"training.schedule": "fedbabu"}),
        ("fedbn", {"sharing.norm_affine": "site"}),
        ("fedprox", {"training.proximal": 0.01}),
        ("moon", {"training.contrast": 1.0}),
        ("ditto", {"personal.ditto": 1.0}),
        ("dual", {"sharing.private_encoder": True}),
        ("finetune", {"training.final_parts": "all"}),
        ("uniform", {"aggregation.weighting": "uniform"}),
        ("tasks", {"aggregation.weighting": "tasks"}),
        ("taskset", {"sharing.branches": "taskset"}),
        ("task", {"sharing.branches": "task"}),
        ("fedavgm", {"aggregation.optimiser": "momentum"}),
        ("fedadam", {"aggregation.optimiser": "adam", "aggregation.rate": 0.01}),
        ("cagrad", {"aggregation.rule": "cagrad", "aggregation.weighting": "uniform"}),
        ("precision", {"aggregation.rule": "precision"}),
        ("krum", {"aggregation.rule": "krum", "aggregation.weighting": "uniform", "participation.quorum": 5}),
        ("median", {"aggregation.rule": "median", "aggregation.weighting": "uniform", "participation.quorum": 3}),
        ("fedavg", {"training.final_epochs": 0, "sharing.branches": "task", "sharing.norm_affine": "shared"}),
        ("local", {"aggregation.clip": 0.0, "participation.quorum": 1}),
    ],
)
def test_a_method_changes_what_it_names_and_nothing_else(name: str, expected: dict[str, Any]) -> None:
    assert changes(PLAIN, METHODS[name].of(PLAIN)) == expected


def test_options_of_other_methods_are_taken_back() -> None:
    kept = {"aggregation.largest_share": 0.5, "aggregation.clip": 2.0}
    assert changes(PLAIN, METHODS["fedper"].of(SPICED)) == kept


def test_a_number_that_the_study_gives_for_a_method_is_the_methods() -> None:
    assert METHODS["fedprox"].of(SPICED).training.proximal == 0.5
    assert METHODS["moon"].of(SPICED).training.contrast == 2.0
    assert METHODS["ditto"].of(SPICED).personal.ditto == 0.3
    assert METHODS["fedadam"].of(SPICED).aggregation.rate == 0.07
    assert METHODS["fedyogi"].of(SPICED).aggregation.rate == 0.01, "it was given for another optimiser"


def test_fedrep_keeps_the_studys_own_division() -> None:
    training = METHODS["fedrep"].of(REP).training
    assert (training.branch_epochs, training.epochs) == (3, 1)
    assert METHODS["fedper"].of(REP).training.epochs == 4
    assert METHODS["tasks"].of(REP).training == REP.training


def test_one_pass_cannot_be_divided() -> None:
    one = PLAIN.model_copy(update={"training": Training(epochs=1)})
    assert passes(equalised(one)) == 2
    assert equalised(PLAIN) == PLAIN
    assert equalised(REP) == REP
    with pytest.raises(Problem, match="branch_epochs: found 0"):
        METHODS["fedrep"].of(one)


def test_fedavg_shares_the_statistics_of_batch_norm() -> None:
    batch = PLAIN.model_copy(update={"encoder": SegRes(norm="batch")})
    sharing = METHODS["fedavg"].of(batch).sharing
    assert (sharing.norm_statistics, sharing.norm_affine) == ("shared", "shared")
    assert METHODS["fedbn"].of(batch).sharing.norm_statistics == "site"


def test_babu_tunes_branches_at_the_end_whatever_the_study_says() -> None:
    untuned = PLAIN.model_copy(update={"training": Training(epochs=4, final_epochs=0)})
    assert METHODS["fedbabu"].of(untuned).training.final_epochs == 1


def test_the_arms_of_a_run_are_methods_and_train_nothing_beside() -> None:
    study = SPICED.model_copy(update={"participation": Participation(quorum=3, task_quorum={"lesion": 2})})
    assert variation(study, "federated") == study
    for arm in ("local", "fedavg"):
        varied = variation(study, arm)
        assert varied.personal == Personal(alone=False)
        assert varied.participation.task_quorum == {}
    assert variation(study, "local").sharing.private_encoder, "the model of a site alone has the same parts"


def test_every_rule_has_a_method() -> None:
    assert {method.rule for method in METHODS.values()} == set(RULES)
