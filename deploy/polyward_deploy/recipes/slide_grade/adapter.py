"""PANDA's table and tiles cut from its slides -> manifest rows, one site for each provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, files_in, recoded, split_of, table
from polyward_shared.problems import Problem

DATA_SET = "PANDA, cut into tiles"
TUMOUR = {"karolinska": {2: 1}, "radboud": {3: 1, 4: 1, 5: 1}}
GRADES = tuple("012345")


def rows(root: Path) -> Iterator[Row]:
    """One row for each tile of the slides in `train.csv` that were cut. Raises `Problem`."""
    path = root / "train.csv"
    listed = table(path, ("image_id", "data_provider", "isup_grade"), data_set=DATA_SET)
    cut = {tile.parent.name for tile in files_in(root / "tiles", "*/*.*", data_set=DATA_SET)}
    for number, case in enumerate(listed, start=2):
        slide, provider, grade = case["image_id"], case["data_provider"], case["isup_grade"]
        if slide not in cut:
            continue
        if provider not in TUMOUR or grade not in GRADES:
            raise Problem(
                str(path),
                f"row {number}: provider {provider!r}, grade {grade!r}",
                expected=f"{' or '.join(TUMOUR)}, and 0 to 5",
            )
        for tile in files_in(root / "tiles" / slide, "*.*", data_set=DATA_SET):
            region = root / "masks" / slide / f"{tile.stem}.png"
            name = f"{slide}-{tile.stem}.png"
            yield {
                "path": tile,
                "patient_id": slide,
                "split": split_of(slide),
                "site": provider,
                "slide": slide,
                "grade": grade,
                "tumour": recoded(region, name, TUMOUR[provider]) if region.is_file() else "",
            }
