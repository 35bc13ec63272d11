"""What a person is told of a study before approving it: everything that leaves, and nothing that does not."""

from __future__ import annotations

from typing import Any

import pytest

from polyward_client.approvals import Approval
from polyward_client.leaving import leaving, training
from polyward_shared.schema import ArraySpec, Schema
from tests.support.toy_trainer import toy_schema, toy_study


def words(extra: tuple[str, ...] = (), **changes: Any) -> str:
    """What is said of a study in which these arrays cross besides the encoder's."""
    study = toy_study(**changes)
    arrays = (*toy_schema(toy_study(), ()).arrays, *(ArraySpec(name, (250,)) for name in extra))
    return "\n".join(leaving(Approval(study, ("mask",), Schema(arrays))))


def test_what_leaves_is_said_in_plain_words() -> None:
    plain = words()
    assert "in each of 3 rounds" in plain
    assert "encoder (2 arrays, 0.00 MB): the weights of the shared encoder" in plain
    for absent in ("branch", "how sure", "statistics", "Ditto"):
        assert absent not in plain


@pytest.mark.parametrize(
    ("extra", "changes", "said"),
    [
        ("branches.mask.w", {"sharing": {"branches": "task"}}, "branch of mask, shared with all sites that train this"),
        (
            "branches.mask.w",
            {"sharing": {"branches": "taskset"}},
            "shared with the sites that train the very same tasks",
        ),
        (
            "branches.mask.w",
            {"aggregation": {"rule": "fedhca2", "weighting": "uniform"}},
            "branch of mask, the hub mixes it with the branches of other tasks",
        ),
        (
            "precision.encoder.w",
            {"aggregation": {"rule": "precision"}},
            "how sure this site is of each of those weights",
        ),
        (
            "statistics.encoder.norm.mean",
            {"encoder": {"filters": 4, "norm": "batch"}, "sharing": {"norm_statistics": "shared"}},
            "means and squares of features over this site's images",
        ),
    ],
)
def test_each_group_has_its_meaning(extra: str, changes: dict[str, Any], said: str) -> None:
    text = words((extra,), **changes)
    assert said in text
    assert "(1 array, 0.00 MB)" in text


def test_models_beside_the_federated_one_and_the_word_for_the_kept_one_are_said() -> None:
    assert "one word for the model that this site keeps: federated or alone" in words()
    both = words(personal={"ditto": 0.1})
    assert "keeps: federated or alone or ditto" in both
    assert "near the received one (Ditto); its arrays stay here" in both
    assert "one word" not in words(personal={"alone": False})
    assert "trains alone" not in words(personal={"alone": False})


def test_names_and_shapes_of_all_arrays_are_said_on_request() -> None:
    approval = Approval(toy_study(), ("mask",), toy_schema(toy_study(), ("mask",)))
    assert [line.strip() for line in leaving(approval, every_array=True) if line.startswith("    ")] == [
        "encoder.w  2 x 3",
        "encoder.b  3",
    ]
    assert not [line for line in leaving(approval) if line.startswith("    ")]


@pytest.mark.parametrize(("codec", "each", "total"), [("float32", "1.00", "50.00"), ("bfloat16", "0.50", "25.00")])
def test_bytes_of_a_round_and_of_all_rounds(codec: str, each: str, total: str) -> None:
    study = toy_study(rounds=50, wire={"codec": codec})
    said = list(leaving(Approval(study, ("mask",), Schema((ArraySpec("encoder.w", (250_000,)),)))))
    assert said[0] == f"in each of 50 rounds, {each} MB:"
    assert any(line.startswith(f"in all rounds {total} MB;") for line in said)


def test_figures_are_named_for_each_task_of_this_site() -> None:
    said = "\n".join(leaving(Approval(toy_study(evaluation={"every": 5}), ("grade",), Schema(()))))
    assert "in every 5 rounds and the last and at the end" in said
    assert "grade: auroc, average_precision" in said
    assert "mask:" not in said


def test_what_is_trained() -> None:
    said = list(training(Approval(toy_study(), ("mask",), Schema(()))))
    assert said[:3] == ["mask: segmentation", "not here: grade", "on images of 8 x 8 with 1 channel"]
