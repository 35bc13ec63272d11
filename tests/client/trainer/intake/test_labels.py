"""A table's rows find their images; what does not fit is counted, and no cell of it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_client.trainer.intake.found import Found
from polyward_client.trainer.intake.labels import Labels, join_labels
from polyward_shared.problems import Problem

FOUND = tuple(
    Found(
        path=f"images/{n}.png",
        patient=f"p{n}",
        dims=2,
        keys={"path": f"images/{n}.png", "stem": f"{n}", "patient": f"p{n}"},
    )
    for n in range(4)
)


def joined(tmp_path: Path, text: str, on: str = "id", take: tuple[str, ...] = ("grade",)) -> Labels:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    return join_labels(FOUND, tmp_path / "labels.csv", on, take)


@pytest.mark.parametrize("key", ["{}", "p{}", "images/{}.png"])
def test_the_key_is_recognised(key: str, tmp_path: Path) -> None:
    rows = "".join(f"{key.format(n)},Doe,0{n}\n" for n in (2, 0))
    labels = joined(tmp_path, "id,name,grade\n" + rows)
    assert labels.cells == ({"grade": "00"}, {"grade": ""}, {"grade": "02"}, {"grade": ""})  # text stays text
    assert labels.notes[0].startswith("2 of 4 images have a row")


def test_rows_that_do_not_fit_are_numbered_not_quoted(tmp_path: Path) -> None:
    labels = joined(tmp_path, "id,grade\np0,1\nDoe^Jane,2\np0,1\np1,1\np1,2\n,3\n")
    assert labels.cells == ({"grade": "1"}, {"grade": ""}, {"grade": ""}, {"grade": ""})
    assert labels.notes[1:] == (
        "1 rows belong to no image: row 3",
        "1 rows repeat another one and change nothing: row 4",
        "1 rows contradict an earlier one of the same id; none is used: row 6",
    )


@pytest.mark.parametrize(
    ("text", "on", "take", "message"),
    [
        ("id,grade\np0,1\n", "name", ("grade",), "has no column 'name'"),
        ("id,name,grade\np0,Doe,1\n", "id", (), "has the columns id, name, grade, and none was asked for"),
        ("id,grade\np0,1\n", "id", ("grades",), "has no column grades"),
        ("id,split\np0,1\n", "id", ("split",), "found split"),
        ("id,grade\nDoe^Jane,1\n", "id", ("grade",), "no row's id is a path"),
    ],
)
def test_a_table_that_cannot_be_joined(text: str, on: str, take: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(Problem, match=message) as caught:
        joined(tmp_path, text, on, take)
    assert "Doe" not in str(caught.value)
