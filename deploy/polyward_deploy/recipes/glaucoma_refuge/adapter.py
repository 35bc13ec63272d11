"""REFUGE's folders -> manifest rows: photographs as they are, masks recoded, the fovea from tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, files_in, recoded, table
from polyward_shared.problems import Problem

DATA_SET = "REFUGE"
MASK = {128: 1, 0: 2}  # theirs: 255 background, 128 disc, 0 cup
GRADES = {"Glaucoma": "1", "Non-Glaucoma": "0"}


def rows(root: Path) -> Iterator[Row]:
    """The parts that are there of training (train), validation (val) and test, one row for each photograph.

    A photograph is a patient. Raises `Problem`.
    """
    found = False
    for part, annotation, split in (
        ("Training400", "Annotation-Training400", "train"),
        ("REFUGE-Validation400", "REFUGE-Validation400-GT", "val"),
        ("Test400", "REFUGE-Test-GT", "test"),
    ):
        if (root / part).is_dir():
            found = True
            yield from _part(root / part, root / annotation, split)
    if not found:
        raise Problem(
            str(root),
            "holds none of Training400, REFUGE-Validation400, Test400",
            expected="the folders of REFUGE as the recipe's README shows them",
            remedy="give the folder that holds them",
        )


def _part(images: Path, annotation: Path, split: str) -> Iterator[Row]:
    files = files_in(images, "**/*.jpg", data_set=DATA_SET)
    masks = {path.stem: path for path in annotation.glob("**/*.bmp")}
    places = _table(annotation)
    for path in files:
        name = path.stem
        row = places.get(name, {})
        yield {
            "path": path,
            "patient_id": name,
            "split": split,
            "disc_cup": recoded(masks[name], f"{name}.png", MASK) if name in masks else "",
            "glaucoma": GRADES.get(path.parent.name, row.get("Glaucoma Label", "").partition(".")[0]),
            "fovea": f"{row['Fovea_X']} {row['Fovea_Y']}" if row else "",
        }


def _table(annotation: Path) -> dict[str, dict[str, str]]:
    """The rows of the part's table by the image's name; a spreadsheet must have been saved as CSV."""
    sheets = sorted(annotation.glob("**/*.csv")) or [path.with_suffix(".csv") for path in annotation.glob("**/*.xlsx")]
    if not sheets:
        return {}
    found = table(sheets[0], ("ImgName", "Fovea_X", "Fovea_Y"), data_set=DATA_SET)
    return {Path(row["ImgName"]).stem: row for row in found}
