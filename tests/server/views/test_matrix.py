"""Sites by tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_server.views.matrix import BranchRow, read_matrix
from polyward_shared.messages import Stage
from tests.server.views.by_hand import DIGEST, ByHand, figure


@pytest.fixture
def hand(tmp_path: Path) -> ByHand:
    made = ByHand(tmp_path)
    for site in ("bergen", "porto"):
        made.site(site)
    made.joins("bergen", grade=412, size=23)
    made.joins("porto", grade=7)
    made.starts()
    return made


def cell(hand: ByHand, site: str, task: str) -> BranchRow:
    [found] = [row for row in read_matrix(hand.look()).rows if (row.site, row.task) == (site, task)]
    return found


def test_a_task_that_a_site_does_not_have_is_absent(hand: ByHand) -> None:
    row = cell(hand, "porto", "size")
    assert (row.branch, row.labels, row.value, row.change, row.age, row.trained) == ("none", "", None, None, None, None)


def test_labels_are_told_in_steps_and_never_exactly(hand: ByHand) -> None:
    assert cell(hand, "bergen", "grade").labels == "200-499"
    assert cell(hand, "bergen", "size").labels == "20-49"
    assert cell(hand, "porto", "grade").labels == "1-9"
    assert "412" not in read_matrix(hand.look()).model_dump_json()


def test_a_branch_is_joined_then_trained_then_kept(hand: ByHand) -> None:
    assert cell(hand, "bergen", "grade").branch == "joined"
    hand.commits(1, {"bergen": 1.0})
    assert (cell(hand, "bergen", "grade").branch, cell(hand, "bergen", "grade").trained) == ("trained", 1)
    assert cell(hand, "porto", "grade").branch == "joined"  # it gave nothing to that round
    hand.concludes(1, "bergen", {"grade": "alone"})
    assert (cell(hand, "bergen", "grade").branch, cell(hand, "bergen", "grade").kept) == ("kept", "alone")


def test_a_change_is_good_by_the_direction_of_its_figure(hand: ByHand) -> None:
    hand.commits(1, {"bergen": 1.0}, [("bergen", figure("grade", 0.5)), ("bergen", figure("size", 4.0))])
    first = cell(hand, "bergen", "grade")
    assert (first.value, first.change, first.better) == (0.5, None, None)
    hand.commits(2, {"bergen": 1.0}, [("bergen", figure("grade", 0.75)), ("bergen", figure("size", 3.5))])
    grade, size = cell(hand, "bergen", "grade"), cell(hand, "bergen", "size")
    assert (grade.change, grade.better) == (0.25, True)
    assert (size.change, size.better) == (-0.5, True)  # an error: less is better
    hand.commits(3, {"bergen": 1.0}, [("bergen", figure("grade", 0.75)), ("bergen", figure("size", 4.0))])
    assert (cell(hand, "bergen", "grade").change, cell(hand, "bergen", "grade").better) == (0.0, None)
    assert cell(hand, "bergen", "size").better is False


def test_a_figure_of_rounds_ago_says_how_old_it_is(hand: ByHand) -> None:
    hand.commits(1, {"bergen": 1.0, "porto": 1.0}, [("porto", figure("grade", 0.5, cases=31))])
    hand.commits(2, {"bergen": 1.0})
    hand.commits(3, {"bergen": 1.0})
    row = cell(hand, "porto", "grade")
    assert (row.value, row.cases, row.measured, row.age, row.trained) == (0.5, 31, 1, 2, 1)


def test_the_final_figure_is_compared_with_the_last_of_training(hand: ByHand) -> None:
    hand.commits(1, {"bergen": 1.0}, [("bergen", figure("grade", 0.5))])
    hand.concludes(1, "bergen", {}, figure("grade", 0.625, stage=Stage.FINAL))
    row = cell(hand, "bergen", "grade")
    assert (row.stage, row.value, row.change) == ("final", 0.625, 0.125)


def test_only_the_test_split_is_shown(hand: ByHand) -> None:
    hand.commits(1, {"bergen": 1.0}, [("bergen", figure("grade", 0.9, split="val"))])
    assert cell(hand, "bergen", "grade").value is None


def test_a_column_says_how_many_owners_brought_the_round_further(hand: ByHand) -> None:
    hand.commits(1, {"bergen": 1.0})
    grade = next(column for column in read_matrix(hand.look()).tasks if column.task == "grade")
    assert (grade.gave, grade.owners, grade.least, grade.arrow) == (1, 2, None, "↑")


def test_a_site_is_shown_as_it_was_last_heard(hand: ByHand) -> None:
    machine = {"cpu": 0.42, "memory_used": 8e9, "memory_total": 64e9, "disk_free": 1, "gpus": []}
    work = {"study": DIGEST, "round": 1, "phase": "training", "done": 1, "of": 2}
    hand.heard("bergen", 1000.0, state="working", work=work, machine=machine)
    hand.heard("porto", 900.0, connected=False, state="working", work=work)
    hand.note(1, "porto", "refused", "data")
    bergen, porto = read_matrix(hand.look()).sites
    assert (bergen.standing, bergen.work, bergen.done, bergen.of, bergen.heard) == ("here", "training", 1, 2, None)
    assert (bergen.cpu, bergen.memory_used, bergen.memory_total) == (0.4, 8, 64)
    assert (porto.standing, porto.work, porto.refused) == ("away", "", 1)
    assert porto.heard is not None
    assert porto.heard.timestamp() == 900.0


def test_a_heartbeat_without_news_changes_nothing(hand: ByHand) -> None:
    hand.heard("bergen", 1000.0, state="idle")
    before = read_matrix(hand.look())
    hand.heard("bergen", 1003.0, state="idle")
    assert read_matrix(hand.look()) == before


def test_work_on_another_study_is_not_told_as_ours(hand: ByHand) -> None:
    work = {"study": "f" * 64, "round": 9, "phase": "training", "done": 1, "of": 2}
    hand.heard("bergen", 1000.0, state="working", work=work)
    bergen = read_matrix(hand.look()).sites[0]
    assert (bergen.work, bergen.done, bergen.of) == ("another study", 0, 0)
