"""Every kind of wrong row is named with its number, column, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyward_client.site import Site, read_site
from polyward_client.trainer.manifest import census, read_manifest
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.support.images import TASKS, make_study, read_rows, write_manifest, write_site

Rows = list[dict[str, str]]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return write_site(tmp_path)


@pytest.fixture
def study() -> Study:
    return make_study()


def cell(row: int, column: str, value: str) -> Callable[[Rows, Path], None]:
    """Changes one cell; `row` as in a spreadsheet."""

    def change(rows: Rows, root: Path) -> None:
        rows[row - 2][column] = value

    return change


def outside(rows: Rows, root: Path) -> None:
    (root.parent / "secret.png").write_bytes((root / "0.png").read_bytes())
    (root / "link.png").symlink_to(root.parent / "secret.png")
    rows[2]["path"] = "link.png"


def not_an_image(rows: Rows, root: Path) -> None:
    (root / "1.png").write_text("text")


def small_mask(rows: Rows, root: Path) -> None:
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(root / "3.mask.png")


def without(column: str) -> Callable[[Rows, Path], None]:
    def change(rows: Rows, root: Path) -> None:
        for row in rows:
            del row[column]

    return change


def emptied(column: str, keep: int = 0) -> Callable[[Rows, Path], None]:
    def change(rows: Rows, root: Path) -> None:
        for row in rows[keep:]:
            row[column] = ""

    return change


BROKEN = {
    "missing file": (cell(4, "path", "no.png"), "row 4, column path: found 'no.png', which does not exist"),
    "no path": (cell(4, "path", ""), "row 4, column path: found nothing; expected a path relative to data.root"),
    "unreadable image": (not_an_image, "row 3, column path: found '1.png', which cannot be read"),
    "unknown kind": (
        cell(2, "path", "manifest.csv"),
        "row 2, column path: found 'manifest.csv', which is of an unknown",
    ),
    "patient in two splits": (
        cell(5, "patient_id", "p0"),
        "row 5, column split: found 'val', but the same patient is in 'train' in row 2",
    ),
    "no patient": (
        cell(2, "patient_id", ""),
        "row 2, column patient_id: found nothing; expected a patient's identifier",
    ),
    "unknown split": (cell(6, "split", "dev"), "row 6, column split: found 'dev'; expected train, val or test"),
    "binary label": (cell(2, "bright", "2"), "row 2, column bright: found '2'; expected one of 0, 1"),
    "class name": (cell(7, "shape", "ring"), "row 7, column shape: found 'ring'; expected one of disc, bar, cross"),
    "class number": (cell(7, "shape", "3"), "row 7, column shape: found '3'; expected one of disc, bar, cross"),
    "grade": (cell(8, "grade", "0"), "row 8, column grade: found '0'; expected one of 1, 2, 3"),
    "not a number": (cell(9, "area", "big"), "row 9, column area: found 'big'; expected a number"),
    "a number too large for float32": (cell(9, "area", "1e30"), "row 9, column area: found '1e30'; expected a number"),
    "NaN": (cell(9, "area", "nan"), "row 9, column area: found 'nan'; expected a number"),
    "mask of another size": (
        small_mask,
        "row 5, column mask: found '3.mask.png' of size 8 x 16; expected the size of its image, 16 x 16",
    ),
    "missing mask": (cell(3, "mask", "m.png"), "row 3, column mask: found 'm.png', which does not exist"),
    "unreadable mask": (cell(3, "mask", "manifest.csv"), "row 3, column mask: found 'manifest.csv', which is of"),
    "duplicate path": (cell(12, "path", "0.png"), "row 12, column path: found the same file as in row 2"),
    "path with dots": (
        cell(2, "path", "../north.toml"),
        "row 2, column path: found '../north.toml'; expected a path that",
    ),
    "absolute path": (
        cell(2, "path", "/etc/hosts"),
        "row 2, column path: found '/etc/hosts'; expected a path that stays",
    ),
    "link out": (outside, "row 4, column path: found 'link.png'; expected a path that stays below data.root"),
    "mask outside": (cell(2, "mask", "../m.png"), "row 2, column mask: found '../m.png'; expected a path that stays"),
    "missing column": (without("grade"), "expected also grade"),
    "missing split column": (without("split"), "expected also split"),
    "no labels": (emptied("area"), "column area: no labels at all for the task area"),
    "few labels": (emptied("area", keep=6), "column area: 4 training labels for the task area; expected at least 5"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_manifest_is_explained(name: str, site: Site, study: Study) -> None:
    change, text = BROKEN[name]
    rows = read_rows(site)
    change(rows, site.root)
    write_manifest(site.manifest, rows)
    with pytest.raises(Problem) as caught:
        read_manifest(site, study, site.file.tasks)
    assert text in str(caught.value)
    assert "what to do" in str(caught.value)


def test_all_errors_are_told_at_once_and_no_patient_is_named(site: Site, study: Study) -> None:
    rows = read_rows(site)
    rows[0]["split"], rows[1]["bright"], rows[4]["patient_id"] = "dev", "x", "p3"
    write_manifest(site.manifest, rows)
    with pytest.raises(Problem, match="3 of 20 rows are wrong") as caught:
        read_manifest(site, study, site.file.tasks)
    assert "p3" not in str(caught.value).replace(str(site.manifest), "")


def test_labels_become_indices_numbers_and_paths(site: Site, study: Study) -> None:
    case = read_manifest(site, study, site.file.tasks).cases[1]  # the second picture: a bright bar of reach 3
    assert case.row == 3
    assert case.labels == {"bright": 1, "shape": 1, "grade": 1, "area": 0.1875, "mask": site.root / "1.mask.png"}


def test_numbers_as_a_spreadsheet_stores_them(site: Site, study: Study) -> None:
    rows = read_rows(site)
    rows[0].update(bright="1.0", shape="2", grade="3.0")
    write_manifest(site.manifest, rows)
    labels = read_manifest(site, study, site.file.tasks).cases[0].labels
    assert (labels["bright"], labels["shape"], labels["grade"]) == (1, 2, 2)


def test_an_image_without_any_label_is_left_out_and_listed(tmp_path: Path, study: Study) -> None:
    site = write_site(tmp_path, unlabelled={task: [4] for task in TASKS})
    manifest = read_manifest(site, study, site.file.tasks)
    assert len(manifest.cases) == 19
    assert [(row.row, row.path, row.reason) for row in manifest.unused] == [
        (6, "4.png", "no label for any of this site's tasks")
    ]


def test_census_counts_labels_classes_and_distinct_images(tmp_path: Path, study: Study) -> None:
    site = write_site(tmp_path, unlabelled={"bright": [0, 1]})
    counts = census(read_manifest(site, study, site.file.tasks), study)
    assert counts.labels["bright", "train"] == 10
    assert counts.labels["mask", "train"] == counts.samples == 12
    assert sum(counts.classes["shape", "train", name] for name in ("disc", "bar", "cross")) == 12


def test_rows_and_columns_of_the_sites_file(tmp_path: Path) -> None:
    site = write_site(tmp_path, tasks=["bright"])
    rows = [{**row, "ward": "ab"[number % 2]} for number, row in enumerate(read_rows(site))]
    for row in rows:
        row["hell"] = row.pop("bright")
    write_manifest(site.manifest, rows)
    site.path.write_text(site.path.read_text() + '\n[data.rows]\nward = "a"\n[data.columns]\nbright = "hell"\n')
    site = read_site(site.path)
    manifest = read_manifest(site, make_study(tasks=["bright"]), ("bright",))
    assert [case.row for case in manifest.cases] == list(range(2, 22, 2))
    site.path.write_text(site.path.read_text().replace('"a"', '"c"'))
    with pytest.raises(Problem, match="no usable rows; expected at least one, with ward = c"):
        read_manifest(read_site(site.path), make_study(tasks=["bright"]), ("bright",))
