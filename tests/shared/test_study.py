"""The study's digest is its meaning: any change shows, no formatting does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import BaseModel

from polyward_shared.problems import Problem
from polyward_shared.study import Study, read_study

PLAIN: dict[str, Any] = {
    "id": "breast",
    "rounds": 3,
    "image": {"size": [32, 32]},
    "tasks": {"mask": {"kind": "segmentation"}, "grade": {"kind": "ordinal", "classes": ["low", "high"]}},
}
DIGEST = "e981fec6a911682a27f824029fa53b018e5e166a2ea789edd08459e90d5b6f8c"
# One changed value for every key of every table of a study.
CHANGES: dict[str, Any] = {
    "id": "lung",
    "seed": 1,
    "rounds": 4,
    "image.channels": 3,
    "image.size": [32, 64],
    "image.intensity": [0.0, 255.0],
    "image.spacing": [1.0, 1.0],
    "encoder": {"kind": "vit"},  # more in the test below
    "image.window": None,  # only with maps; see below
    "side": {"age": {"kind": "number"}},
    "branches.decoder": "unet",
    "branches.hidden": 32,
    "branches.dropout": 0.1,
    "branches.attention": "cbam",
    "balancer.kind": "pcgrad",
    "balancer.space": "parameters",
    "balancer.temperature": 1.0,
    "balancer.alpha": 1.0,
    "balancer.c": 0.5,
    "balancer.rate": 0.1,
    "balancer.decay": 0.5,
    "tasks": {"mask": {"kind": "segmentation"}},
    "topology.kind": "cascaded",
    "topology.unit": "nddr",
    "topology.cascade": None,  # needs a kind; see tests of topologies
    "topology.interact": None,
    "training.schedule": "fedrep",
    "training.epochs": 2,
    "training.branch_epochs": 2,
    "training.final_epochs": 0,
    "training.final_parts": "all",
    "training.join_epochs": 0,
    "training.steps": 10,
    "training.proximal": 0.1,
    "training.contrast": 1.0,
    "training.contrast_temperature": 1.0,
    "personal.alone": False,
    "personal.ditto": 0.1,
    "training.batch": 16,
    "training.accumulate": 2,
    "training.optimiser": "sgd",
    "training.learning_rate": 0.01,
    "training.branch_learning_rate": 0.01,
    "training.rate_schedule": "cosine",
    "training.warmup_rounds": 1,
    "training.weight_decay": 0.0,
    "training.momentum": 0.5,
    "training.gradient_clip": 2.0,
    "training.augmentation": "none",
    "training.patience": 2,
    "training.empty_mask": "skip",
    "sharing.branches": "task",
    "sharing.norm_affine": "site",
    "sharing.norm_statistics": None,  # needs batch norm; see below
    "sharing.private_encoder": True,
    "aggregation.rule": None,  # needs weighting = "uniform"; see below
    "aggregation.weighting": "uniform",
    "aggregation.task_exponent": 1.0,
    "aggregation.largest_share": 0.5,
    "aggregation.clip": 0.0,
    "aggregation.c": 0.5,
    "aggregation.faulty": 2,
    "aggregation.clusters": 3,
    "aggregation.optimiser": "adam",
    "aggregation.rate": 0.1,
    "aggregation.beta1": 0.5,
    "aggregation.beta2": 0.5,
    "aggregation.tau": 0.1,
    "participation.quorum": 3,
    "participation.task_quorum": {"mask": 1},
    "participation.sample": 0.5,
    "participation.deadline_seconds": 60.0,
    "participation.stall_seconds": 60.0,
    "participation.longest_seconds": 7200.0,
    "participation.rejoin_seconds": 5.0,
    "evaluation.splits": ["test"],
    "evaluation.every": 2,
    "evaluation.resamples": 100,
    "wire.codec": "bfloat16",
    "wire.update_norm": 10.0,
}


def changed(key: str, value: object) -> dict[str, Any]:
    table, _, name = key.rpartition(".")
    return {**PLAIN, table: {**PLAIN.get(table, {}), name: value}} if table else {**PLAIN, key: value}


def keys_of(record: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in record.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys_of(field.annotation, f"{name}.")
        else:
            yield before + name


def shuffled(value: Any, order: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    names = order.sample(sorted(value), len(value))
    return {name: shuffled(value[name], order) for name in names}


def test_the_table_of_changes_is_complete() -> None:
    assert set(keys_of(Study)) == set(CHANGES)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, value in CHANGES.items() if value is not None])
def test_any_meaningful_change_changes_the_digest(key: str, value: object) -> None:
    assert Study.model_validate(changed(key, value)).digest() != Study.model_validate(PLAIN).digest()


@pytest.mark.parametrize(
    "part", [{"filters": 32}, {"blocks": [1, 2]}, {"norm": "batch"}, {"groups": 2}, {"start": "a" * 64}]
)
def test_a_changed_encoder_changes_the_digest(part: dict[str, object]) -> None:
    assert Study.model_validate({**PLAIN, "encoder": part}).digest() != Study.model_validate(PLAIN).digest()


@pytest.mark.parametrize("part", [{"group": "patient_id"}, {"column": "x"}, {"classes": ["high", "low"]}])
def test_a_changed_task_changes_the_digest(part: dict[str, object]) -> None:
    tasks = {**PLAIN["tasks"], "grade": {**PLAIN["tasks"]["grade"], **part}}
    assert Study.model_validate({**PLAIN, "tasks": tasks}).digest() != Study.model_validate(PLAIN).digest()


def test_order_formatting_and_stated_defaults_do_not(tmp_path: Path) -> None:
    wanted = Study.model_validate(PLAIN)
    full = wanted.model_dump(mode="json", exclude_none=True)
    for seed in range(5):
        text = tomli_w.dumps(shuffled(full if seed % 2 else PLAIN, random.Random(seed)))  # noqa: S311  a test's order
        path = tmp_path / "study.toml"
        path.write_text("# a comment\n\n" + text.replace(" = ", "   =  "))
        assert read_study(path).digest() == wanted.digest()


def test_the_digest_stays_the_same_for_ever() -> None:
    """Approvals and ledgers name studies by it: whoever changes this line breaks them."""
    assert Study.model_validate(PLAIN).canonical().startswith('{"aggregation":{"beta1":0.9,"beta2":0.99,')
    assert Study.model_validate(PLAIN).digest() == DIGEST


def test_the_canonical_form_is_the_study() -> None:
    study = Study.model_validate(changed("image.intensity", [0.0, 255.0]))
    assert Study.model_validate_json(study.canonical()) == study


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            changed("image.size", [30, 32]),
            r"image.size: found \[30, 32\]; this encoder needs every side to be a multiple of 8",
        ),
        (changed("encoder.filters", 18), r"encoder.groups: found 4; expected a divisor of encoder.filters \(18\)"),
        (changed("participation.task_quorum", {"x": 1}), "participation.task_quorum: found 'x'; expected a task"),
        (changed("image.spacing", [1.0]), r"image: spacing: found \[1.0\]; expected a positive number for each"),
        (changed("image.spacing", [1.0, 0.0]), "image: spacing: found"),
        (changed("image.intensity", [5, 5]), r"image: intensity: found \[5.0, 5.0\]; expected the lower bound first"),
        (changed("image.intensity", "max"), "image.intensity: found 'max'; expected 'minmax' or 'zscore', or a list"),
        (changed("encoder.start", "abc"), "encoder.start: found 'abc'; expected 'seed', or a digest of 64"),
        (changed("evaluation.splits", ["val", "val"]), "evaluation: splits: found .* expected each split once"),
        (changed("tasks.grade", {"kind": "ordinals"}), "tasks.grade.kind: found 'ordinals'; expected 'binary'"),
        (changed("tasks.grade", {}), "tasks.grade.kind: is missing"),
        (changed("tasks.segmentation", {"kind": "segmentation", "classes": []}), "tasks.segmentation.classes: found"),
        (changed("tasks.Bad", {"kind": "binary"}), "tasks.Bad: found 'Bad'; expected a task name of small letters"),
        (changed("id", "a b"), "id: found 'a b'; expected 1 to 63 letters"),
        (changed("tasks", {}), "tasks: found {}; expected at least 1 entries"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(tomli_w.dumps(data))
    with pytest.raises(Problem, match=message):
        read_study(path)


MASKS = {**PLAIN, "tasks": {"mask": {"kind": "segmentation"}, "organ": {"kind": "segmentation"}}}
EDGE = {"source": "mask", "target": "grade"}


@pytest.mark.parametrize(
    ("plain", "more"),
    [
        (MASKS, {"image": {"size": [32, 32], "window": [16, 16]}}),
        (PLAIN, {"topology": {"kind": "cascaded", "cascade": [{"source": "grade", "target": "mask"}]}}),
        (PLAIN, {"topology": {"kind": "interacted", "interact": [{"tasks": ["mask", "grade"], "unit": "nddr"}]}}),
        (PLAIN, {"encoder": {"norm": "batch"}, "sharing": {"norm_statistics": "shared"}}),
        (PLAIN, {"aggregation": {"rule": "cagrad", "weighting": "uniform"}}),
        (PLAIN, {"balancer": {"kind": "fixed"}, "tasks": {"mask": {"kind": "segmentation", "weight": 2.0}}}),
    ],
)
def test_changes_that_need_company_change_the_digest_too(plain: dict[str, Any], more: dict[str, Any]) -> None:
    assert Study.model_validate({**plain, **more}).digest() != Study.model_validate(plain).digest()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"image": {"size": [32, 32], "window": [16, 16]}}, "tasks.grade: a window shows a part of the image"),
        ({"topology": {"kind": "parallel", "cascade": [EDGE]}}, "topology.cascade: a topology of the kind 'parallel'"),
        ({"topology": {"kind": "cascaded", "cascade": [{**EDGE, "target": "x"}]}}, "topology.cascade: found 'x'"),
        (
            {"topology": {"kind": "cascaded", "cascade": [EDGE, {"source": "grade", "target": "mask"}]}},
            "feed one another in a circle",
        ),
        ({"topology": {"kind": "cascaded", "cascade": [EDGE, EDGE]}}, "two edges join the same tasks"),
        ({"topology": {"kind": "cascaded", "cascade": [{**EDGE, "passes": 5}]}}, "branches.dropout: found 0.0"),
        ({"balancer": {"kind": "best"}}, "balancer.kind: found 'best'; expected one of equal, fixed, uncertainty"),
        ({"encoder": {"kind": "vgg"}}, "encoder.kind: found 'vgg'; expected 'segres'"),
        ({"encoder": {"filtres": 8}}, "encoder.filtres: this key is unknown"),
        ({"training": {"patience": 2}, "evaluation": {"splits": ["test"]}}, "training.patience: branches rest by"),
        ({"tasks": {"a": {"kind": "binary", "weight": 2.0}}}, "tasks.a.weight: found 2.0, but the balancer 'equal'"),
        ({"tasks": {"a": {"kind": "binary", "side": ["age"]}}}, "tasks.a.side: found 'age'; expected inputs that"),
        ({"aggregation": {"rule": "median"}}, "aggregation: weighting: found 'samples', but the rule 'median'"),
        (
            {"aggregation": {"rule": "krum", "weighting": "uniform", "faulty": 2}},
            "participation.quorum: found 2; the rule 'krum' as it is set needs at least 7",
        ),
        ({"aggregation": {"rule": "mgda", "weighting": "uniform", "largest_share": 0.5}}, "largest_share: found 0.5"),
        ({"aggregation": {"rule": "clusters", "optimiser": "adam"}}, "optimiser: found 'adam', which follows one"),
        ({"aggregation": {"rule": "clusters"}, "sharing": {"branches": "task"}}, "sharing.branches: found 'task'"),
        ({"aggregation": {"rule": "precision"}, "wire": {"codec": "bfloat16"}}, "wire.codec: the rule 'precision'"),
        ({"training": {"schedule": "fedbabu", "final_epochs": 0}}, "training.schedule: with 'fedbabu' branches move"),
        ({"sharing": {"norm_statistics": "shared"}}, "sharing.norm_statistics: found 'shared', but this encoder"),
        (
            {"aggregation": {"rule": "fedhca2", "weighting": "uniform"}, "topology": {"kind": "interacted"}},
            "sharing.branches: found 'site' with the rule 'fedhca2', but branches that exchange",
        ),
        (
            {
                "encoder": {"norm": "batch"},
                "sharing": {"norm_statistics": "shared"},
                "wire": {"codec": "bfloat16"},
            },
            "sharing.norm_statistics: found 'shared'; squares need wire.codec = 'float32'",
        ),
        (
            {"encoder": {"start": "a" * 64}, "participation": {"sample": 0.5}},
            "personal.alone: found true, but a site that is not asked in the first round",
        ),
        ({"participation": {"longest_seconds": 1.0}}, "participation: longest_seconds: found 1; expected at least"),
        ({"side": {"sex": {"kind": "category"}}}, "side.sex: classes: expected different names for a category"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_reading(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(tomli_w.dumps({**PLAIN, **more}))
    with pytest.raises(Problem, match=message):
        read_study(path)


@pytest.mark.parametrize("encoder", [5, "resnet", True, [1]])
def test_an_encoder_that_is_no_table_is_a_problem(tmp_path: Path, encoder: Any) -> None:
    path = tmp_path / "study.toml"
    path.write_text(tomli_w.dumps({"encoder": encoder, **PLAIN}))
    with pytest.raises(Problem, match="encoder"):
        read_study(path)
