"""What a person sees before taking part, and what is approved."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from polyward_client.site import Site, read_site
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.check import run_check
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.support.images import TASKS, make_study, read_rows, write_manifest, write_site


def checked(site: Site, study: Study | None) -> tuple[bool, str]:
    console = Console(file=StringIO(), width=140)
    good = run_check(site, study, console)
    assert isinstance(console.file, StringIO)
    return good, console.file.getvalue()


def test_a_sound_site(tmp_path: Path) -> None:
    good, text = checked(write_site(tmp_path, unlabelled={task: [4] for task in TASKS}), make_study())
    assert good
    assert "labels of 19 images" in text
    assert "1 rows are not used: no label for any of this site's tasks" in text
    assert "row 6: 4.png" in text
    assert text.count("ok") == len(TASKS)


def test_a_wrong_row_is_told(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    rows = read_rows(site)
    rows[3]["grade"] = "[9]"
    write_manifest(site.manifest, rows)
    good, text = checked(site, make_study())
    assert not good
    assert "row 5, column grade: found '[9]'; expected one of 1, 2, 3" in text


def test_a_task_that_cannot_train_is_told_with_a_remedy(tmp_path: Path) -> None:
    study = make_study(balancer={"kind": "fixed"})
    heavy = study.tasks["area"].model_copy(update={"weight": 1e39})  # more than float32 holds
    site = write_site(tmp_path, tasks=["area", "bright"])
    good, text = checked(site, study.model_copy(update={"tasks": {**study.tasks, "area": heavy}}))
    assert not good
    assert text.count("failed") == text.count("not finite") == text.count(" ok ") == 1


def test_a_study_of_windows_is_tried_with_windows(tmp_path: Path) -> None:
    """The whole image need not fit the encoder: here 18 is no multiple of its steps."""
    study = make_study(tasks=["mask"], image={"size": [18, 18], "window": [16, 16]}, encoder={"blocks": [1, 1, 1]})
    good, text = checked(write_site(tmp_path, tasks=["mask"]), study)
    assert good, text


def test_a_batch_whose_labels_teach_nothing_is_no_failure(tmp_path: Path) -> None:
    """Times without an event have no loss here; the next batch may have one."""
    site = write_site(tmp_path, tasks=["bright"], images=40)
    rows = [{**row, "death": "2.5", "death_event": str(int(place >= 20))} for place, row in enumerate(read_rows(site))]
    write_manifest(site.manifest, rows)
    site.path.write_text(site.path.read_text().replace('"bright"', '"death"'))
    text = make_study(tasks=["bright"]).model_dump(mode="json")
    text["tasks"] = {"death": {"kind": "survival", "times": [1, 2, 4], "loss": "cox"}}
    good, printed = checked(read_site(site.path), Study.model_validate(text))
    assert good, printed
    assert "0.0000" in printed


def test_without_a_study_cells_are_counted(tmp_path: Path) -> None:
    site = write_site(tmp_path, unlabelled={"bright": [0]})
    good, text = checked(site, None)
    assert good
    assert "filled cells of 20 rows" in text
    (site.root / "3.png").unlink()
    good, text = checked(site, None)
    assert not good
    assert "1 rows name files that do not exist below data.root, the first of them row 5" in text


def test_an_approval_holds_the_sites_tasks_in_the_studys_order(tmp_path: Path) -> None:
    site = write_site(tmp_path, tasks=["mask", "bright"])
    approval = make_approval(make_study(), site)
    assert approval.tasks == ("bright", "mask")
    assert set(approval.schema.groups) == {"encoder"}
    with pytest.raises(Problem, match="tasks: found mask"):
        make_approval(make_study(tasks=["bright"]), site)
