"""An approval is kept under the study's digest, and is nothing else than what was approved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polyward_client.approvals import Approval, read_approval, write_approval
from polyward_shared.problems import Problem
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
