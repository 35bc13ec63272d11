"""An approval is kept under the study's digest, and is nothing else than what was approved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polyward_client.approvals import Approval, leaving, read_approval, write_approval
from polyward_shared.problems import Problem
from polyward_shared.schema import ArraySpec, Schema
from tests.support.toy_trainer import toy_schema, toy_study

STUDY = toy_study()
APPROVAL = Approval(STUDY, ("mask",), toy_schema(STUDY, ("mask",)))


def test_what_was_approved_is_read_again(tmp_path: Path) -> None:
    path = write_approval(tmp_path / "approved", APPROVAL)
    assert path.name == f"{STUDY.digest()}.json"
    assert read_approval(tmp_path / "approved", STUDY.digest()) == APPROVAL
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_what_was_not_approved_is_not_there(tmp_path: Path) -> None:
    write_approval(tmp_path, APPROVAL)
    assert read_approval(tmp_path, toy_study(rounds=4).digest()) is None
    assert read_approval(tmp_path, "") is None
    assert read_approval(tmp_path / "none", STUDY.digest()) is None


def test_another_study_under_the_digest_is_a_problem(tmp_path: Path) -> None:
    path = write_approval(tmp_path, APPROVAL)
    content = json.loads(path.read_text())
    content["study"]["rounds"] = 1000
    path.write_text(json.dumps(content))
    with pytest.raises(Problem, match="another study than its name says"):
        read_approval(tmp_path, STUDY.digest())


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"study": 3, "tasks": [], "schema": "[]"}'])
def test_a_damaged_file_is_a_problem(tmp_path: Path, content: str) -> None:
    (tmp_path / f"{STUDY.digest()}.json").write_text(content)
    with pytest.raises(Problem, match=STUDY.digest()):
        read_approval(tmp_path, STUDY.digest())


def test_a_damaged_schema_is_a_problem(tmp_path: Path) -> None:
    path = write_approval(tmp_path, APPROVAL)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema": '[["encoder.w",[0]]]'}))
    with pytest.raises(Problem, match="is damaged"):
        read_approval(tmp_path, STUDY.digest())


def words(extra: tuple[str, ...] = (), **changes: Any) -> str:
    """What is said of a study in which these arrays cross besides the encoder's."""
    study = toy_study(**changes)
    arrays = (*toy_schema(toy_study(), ()).arrays, *(ArraySpec(name, (250,)) for name in extra))
    return "\n".join(leaving(Approval(study, ("mask",), Schema(arrays))))


def test_what_leaves_is_said_in_plain_words() -> None:
    plain = words()
    assert "in each of 3 rounds" in plain
    assert "encoder (2 arrays, 0.00 MB): the weights of the shared encoder" in plain
    for absent in ("branch", "precision", "statistics", "Ditto"):
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
