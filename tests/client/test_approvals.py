"""An approval is kept under the study's digest, and is nothing else than what was approved."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polyward_client.approvals import Approval, approved_now, read_approval, write_approval
from polyward_client.decisions import Verdict, approved, decide, read_decisions
from polyward_client.site import Policy
from polyward_shared.problems import Code, Problem, Refused
from tests.support.toy_trainer import toy_schema, toy_study

STUDY = toy_study()
APPROVAL = Approval(STUDY, ("mask",), toy_schema(STUDY, ("mask",)))


def test_what_was_approved_is_read_again(tmp_path: Path) -> None:
    path = write_approval(tmp_path / "approved", APPROVAL)
    assert path.name == f"{STUDY.digest()}.json"
    assert read_approval(tmp_path / "approved", STUDY.digest()) == APPROVAL
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "decisions.jsonl"}
    assert path.stat().st_mode & 0o077 == 0


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


def test_who_approved_what_and_when_is_recorded_with_the_policy_of_the_day(tmp_path: Path) -> None:
    path = write_approval(tmp_path, APPROVAL, Policy(minimum_sites=3))
    [line] = [json.loads(each) for each in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert (line["what"], line["study"], line["id"]) == ("approved", STUDY.digest(), "toy")
    assert line["approval"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert line["policy"]["minimum_sites"] == 3
    assert line["user"].startswith(pwd.getpwuid(os.getuid()).pw_name)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('[[\\"encoder.w\\",[2,3]]', '[[\\"encoder.w\\",[4,3]]'),  # rows for a branch
        ('[\\"encoder.b\\",[3]]', '[\\"encoder.b\\",[3]],[\\"encoder.x\\",[9]]'),
        ('"mask"\n ]', '"mask",\n  "grade"\n ]'),
    ],
)
def test_an_approval_that_was_changed_is_noticed(tmp_path: Path, old: str, new: str) -> None:
    path = write_approval(tmp_path, APPROVAL)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(Problem, match="is not the approval that the record of decisions tells of"):
        read_approval(tmp_path, STUDY.digest())


def test_an_approval_without_a_decision_is_none(tmp_path: Path) -> None:
    write_approval(tmp_path, APPROVAL)
    (tmp_path / "decisions.jsonl").unlink()
    with pytest.raises(Refused, match="study-not-approved"):
        approved_now(tmp_path, STUDY.digest())


@pytest.mark.parametrize(
    ("verdict", "code"), [(Verdict.WITHDRAWN, Code.WITHDRAWN), (Verdict.REJECTED, Code.STUDY_NOT_APPROVED)]
)
def test_the_last_decision_about_a_study_counts(tmp_path: Path, verdict: Verdict, code: Code) -> None:
    digest = STUDY.digest()
    write_approval(tmp_path, APPROVAL)
    decide(tmp_path, Verdict.WITHDRAWN, study="f" * 64)
    assert approved_now(tmp_path, digest) == APPROVAL
    decide(tmp_path, verdict, study=digest)
    with pytest.raises(Refused) as caught:
        approved_now(tmp_path, digest)
    assert caught.value.code is code
    assert read_approval(tmp_path, digest) == APPROVAL, "the record stays"
    write_approval(tmp_path, APPROVAL)
    assert approved_now(tmp_path, digest) == APPROVAL
    assert [each.verdict for each in read_decisions(tmp_path)][-1] is Verdict.APPROVED


def test_a_withdrawal_that_is_cut_out_of_the_record_breaks_it(tmp_path: Path) -> None:
    write_approval(tmp_path, APPROVAL)
    decide(tmp_path, Verdict.WITHDRAWN, study=STUDY.digest())
    decide(tmp_path, Verdict.PAUSED)
    record = tmp_path / "decisions.jsonl"
    lines = record.read_text().splitlines(keepends=True)
    record.write_text(lines[0] + lines[2])
    with pytest.raises(Problem, match="the chain is broken"):
        approved_now(tmp_path, STUDY.digest())


def test_the_last_decision_about_a_study_counts_and_the_newest_is_last(tmp_path: Path) -> None:
    for verdict, study in (
        (Verdict.APPROVED, "a"),
        (Verdict.APPROVED, "b"),
        (Verdict.APPROVED, "c"),
        (Verdict.APPROVED, "d"),
        (Verdict.WITHDRAWN, "b"),
        (Verdict.REJECTED, "c"),
        (Verdict.PAUSED, ""),
        (Verdict.APPROVED, "a"),
    ):
        decide(tmp_path, verdict, study=study)
    assert approved(read_decisions(tmp_path)) == ["d", "a"]
    assert approved([]) == []


def test_two_people_at_once_leave_a_whole_record(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: decide(tmp_path, Verdict.REJECTED, reason=str(number)), range(12)))
    assert sorted(int(each.reason) for each in read_decisions(tmp_path)) == list(range(12))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"study": ' * 100_000, "9" * 5000, "\x00"])
def test_an_approval_that_is_anything_else_is_damaged(tmp_path: Path, text: str) -> None:
    write_approval(tmp_path, APPROVAL).write_text(text)
    with pytest.raises(Problem, match="is damaged"):
        approved_now(tmp_path, STUDY.digest())
