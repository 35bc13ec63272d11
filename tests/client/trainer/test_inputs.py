"""What a folder, a file and a table name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyward_client.site import Site
from polyward_client.trainer.inputs import find_inputs
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.client.trainer.test_images import write_dicom, write_series
from tests.support.images import make_study, write_site

FLAT = make_study(tasks=("bright",))
DEEP = make_study(tasks=("bright",), image={"size": [8, 8, 8]})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return write_site(tmp_path / "site", tasks=("bright",))


def names(source: Path, site: Site, study: Study = FLAT) -> list[str]:
    return [found.name for found in find_inputs(source, site, study, ("bright",))]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)


def test_every_image_below_a_folder_and_nothing_else(tmp_path: Path, site: Site) -> None:
    for name in ("b.png", "inner/a.jpg", ".hidden/c.png", ".d.png"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    picture(tmp_path / "outside" / "e.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "outside" / "e.png")
    (tmp_path / "in" / "away").symlink_to(tmp_path / "outside")
    assert names(tmp_path / "in", site) == ["b.png", "inner/a.jpg"]
    assert names(tmp_path / "in" / "b.png", site) == ["b.png"]


def test_a_folder_of_slices_is_one_volume_or_many_flat_images(tmp_path: Path, site: Site) -> None:
    (tmp_path / "in").mkdir()
    write_series(tmp_path / "in" / "one", np.zeros((3, 4, 4)))
    write_series(tmp_path / "in" / "two", np.zeros((2, 4, 4)))
    assert names(tmp_path / "in", site, DEEP) == ["one", "two"]
    assert names(tmp_path / "in" / "one", site, DEEP) == ["one"]
    assert len(names(tmp_path / "in", site, FLAT)) == 5


def test_a_film_is_a_volume_of_its_own(tmp_path: Path, site: Site) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.dcm", "b"):
        write_dicom(tmp_path / "in" / name, np.zeros((3, 4, 4)), NumberOfFrames=3)
    assert names(tmp_path / "in", site, DEEP) == ["a.dcm", "b"]


def test_a_table_names_files_groups_and_side_inputs(tmp_path: Path, site: Site) -> None:
    side = {"age": {"kind": "number"}, "sex": {"kind": "category", "classes": ["f", "m"]}}
    tasks = {"bright": {"kind": "binary", "group": "patient", "side": ["age", "sex"]}}
    study = Study.model_validate(
        {**make_study(tasks=("bright",)).model_dump(mode="json"), "side": side, "tasks": tasks}
    )
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    table = tmp_path / "in.csv"
    table.write_text("path,patient,age,sex\na.png,p1,50,m\nb.png,,,f\n")
    first, second = find_inputs(table, site, study, ("bright",))
    assert (first.side, first.group, first.path) == ((50.0, 1.0), "p1", tmp_path / "a.png")
    assert second.side[1] == 0
    assert math.isnan(second.side[0])
    assert second.group is None
    [alone] = find_inputs(tmp_path / "a.png", site, study, ("bright",))
    assert all(math.isnan(value) for value in alone.side)


def test_wrong_rows_and_empty_folders_are_problems(tmp_path: Path, site: Site) -> None:
    table = tmp_path / "in.csv"
    table.write_text("path\n../../etc/passwd\nnone.png\n")
    with pytest.raises(Problem, match=r"2 of 2 rows are wrong") as caught:
        find_inputs(table, site, FLAT, ("bright",))
    assert "row 2, column path" in str(caught.value)
    table.write_text("file\na.png\n")
    with pytest.raises(Problem, match="expected also path"):
        find_inputs(table, site, FLAT, ("bright",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Problem, match="holds no image"):
        find_inputs(tmp_path / "empty", site, FLAT, ("bright",))
    with pytest.raises(Problem, match="there is no such file or folder"):
        find_inputs(tmp_path / "nowhere", site, FLAT, ("bright",))
