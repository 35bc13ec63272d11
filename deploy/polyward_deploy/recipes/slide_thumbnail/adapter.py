"""A collection of slide thumbnails with tissue masks and a table of classes -> manifest rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, split_of, table
from polyward_shared.problems import Problem

DATA_SET = "a slide collection (slides.csv, thumbnails and tissue)"


def rows(root: Path) -> Iterator[Row]:
    """One row for each line of `slides.csv` (file, patient, malignant). Raises `Problem`.

    A mask is a PNG with the thumbnail's name in the folder `tissue`; a thumbnail without one has no such label.
    """
    path = root / "slides.csv"
    for number, slide in enumerate(table(path, ("file", "patient", "malignant"), data_set=DATA_SET), start=2):
        image = root / "thumbnails" / slide["file"]
        outline = (root / "tissue" / slide["file"]).with_suffix(".png")
        if not image.is_file():
            raise Problem(str(path), f"row {number} names {slide['file']!r}, which is not in thumbnails")
        if slide["malignant"] not in {"0", "1", ""}:
            raise Problem(str(path), f"row {number}: malignant is {slide['malignant']!r}", expected="0, 1 or nothing")
        yield {
            "path": image,
            "patient_id": slide["patient"],
            "split": split_of(slide["patient"]),
            "tissue": outline if outline.is_file() else "",
            "malignant": slide["malignant"],
        }
