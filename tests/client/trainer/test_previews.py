"""Contact sheets show what the trainer sees, with labels drawn where they are, for the site's own eyes only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from polyward_client.site import read_site
from polyward_client.trainer.check import run_check
from polyward_client.trainer.dataset import load_dataset
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.previews import COLOURS, draw_previews
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.support.images import TASKS, make_study, read_rows, write_manifest, write_site


def sheets(folder: Path, study: Study, site_path: Path) -> dict[str, Image.Image]:
    site = read_site(site_path)
    manifest = read_manifest(site, study, site.file.tasks)
    drawn = draw_previews(folder, manifest, load_dataset(manifest, study), study, root=site.root)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in drawn)
    return {path.name: Image.open(path).convert("RGB") for path in drawn}


def coloured(sheet: Image.Image, colour: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray((np.asarray(sheet) == colour).all(-1))


def test_a_sheet_for_each_task_and_one_of_rows_without_use(tmp_path: Path) -> None:
    site = write_site(tmp_path, unlabelled={task: [4] for task in TASKS})
    folder = tmp_path / "previews"
    drawn = sheets(folder, make_study(), site.path)
    assert set(drawn) == {f"task.{task}.png" for task in TASKS} | {"unused.png"}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert drawn["unused.png"].size[0] < drawn["task.mask.png"].size[0]  # one tile, not 19
    (folder / "task.old.png").touch()
    sheets(folder, make_study(), site.path)
    assert not (folder / "task.old.png").exists()


def test_the_contour_is_where_the_mask_is(tmp_path: Path) -> None:
    """The first picture's disc has radius 2 and lies around (8, 8) of 16: ten times as large in its tile of 160."""
    site = write_site(tmp_path, tasks=["mask"])
    drawn = sheets(tmp_path / "previews", make_study(tasks=["mask"]), site.path)["task.mask.png"]
    contour = coloured(drawn, COLOURS[0])[:200, :168]
    assert coloured(drawn, COLOURS[0])[:30, 200:].any(), "the class is told above, in its colour"
    rows, columns = np.nonzero(contour)
    top, left = 34, 8  # of the first tile
    assert (rows.min() - top, rows.max() - top) == (60, 109)
    assert (columns.min() - left, columns.max() - left) == (60, 109)
    assert not coloured(
        sheets(tmp_path / "previews", make_study(tasks=["bright"]), write_site(tmp_path / "b", tasks=["bright"]).path)[
            "task.bright.png"
        ],
        COLOURS[0],
    ).any()


def test_every_kind_and_volumes_can_be_drawn(tmp_path: Path) -> None:
    site = write_site(tmp_path, tasks=["mask"])
    kinds: dict[str, dict[str, Any]] = {
        "place": {"kind": "landmark", "points": ["left", "right"]},
        "box": {"kind": "detection"},
        "tube": {"kind": "centreline"},
        "other": {"kind": "synthesis"},
        "death": {"kind": "survival", "times": [1, 2]},
        "finding": {"kind": "multilabel", "classes": ["seen", "felt"]},
    }
    rows = [
        {
            **row,
            "place": "3 4; -",
            "box": "2 2 8 9",
            "tube": row["mask"],
            "other": row["mask"],
            "death": "1.5",
            "death_event": "1",
            "seen": "1",
            "felt": "",
        }
        for row in read_rows(site)
    ]
    write_manifest(site.manifest, rows)
    site.path.write_text(site.path.read_text().replace('["mask"]', json.dumps(list(kinds))))
    text = make_study(tasks=["mask"]).model_dump(mode="json")
    text["tasks"] = kinds
    drawn = sheets(tmp_path / "previews", Study.model_validate(text), site.path)
    assert set(drawn) == {f"task.{task}.png" for task in kinds}
    for task in ("place", "box", "tube"):
        assert coloured(drawn[f"task.{task}.png"], COLOURS[0]).any()
    box = np.argwhere(coloured(drawn["task.box.png"], COLOURS[0])[:200, :168]) - (34, 8)
    assert (box.min(0).tolist(), box.max(0).tolist()) == ([20, 20], [89, 79])  # x 2 to 8, y 2 to 9, ten times as large
    assert drawn["task.other.png"].size[0] > 2 * 160


def test_the_slice_of_a_volume_is_the_one_with_most_of_the_label(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    rows = []
    for number in range(8):
        values = np.random.default_rng(number).integers(0, 50, (16, 16, 16)).astype(np.float32)
        mask = np.zeros((16, 16, 16), np.uint8)
        mask[4:12, 4:12, 13] = 1
        np.savez(root / f"{number}.npz", image=values)
        np.savez(root / f"{number}.mask.npz", image=mask)
        split = ("train", "train", "train", "train", "train", "train", "val", "test")[number]
        rows.append({"path": f"{number}.npz", "patient_id": f"p{number}", "split": split, "mask": f"{number}.mask.npz"})
    write_manifest(root / "manifest.csv", rows)
    (tmp_path / "site.toml").write_text(f'name = "north"\ntasks = ["mask"]\n[data]\nroot = "{root}"\n')
    study = make_study(tasks=["mask"], image={"size": [16, 16, 16]})
    drawn = sheets(tmp_path / "previews", study, tmp_path / "site.toml")["task.mask.png"]
    contour = np.argwhere(coloured(drawn, COLOURS[0])[:200, :168]) - (34, 8)
    assert (contour.min(0).tolist(), contour.max(0).tolist()) == ([40, 40], [119, 119])


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    site = write_site(tmp_path, tasks=["mask"])
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match="previews cannot be written"):
        sheets(tmp_path / "file", make_study(tasks=["mask"]), site.path)
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(Problem, match="other users may look into this folder"):
        sheets(tmp_path / "open", make_study(tasks=["mask"]), site.path)
    assert list((tmp_path / "open").iterdir()) == []


def test_check_draws_them_and_counts_for_others(tmp_path: Path) -> None:
    site = write_site(tmp_path, tasks=["bright"])
    console = Console(record=True, width=160, quiet=True)
    assert run_check(site, make_study(tasks=["bright"]), console, previews=tmp_path / "new" / "previews", count=True)
    assert (tmp_path / "new" / "previews" / "task.bright.png").exists()
    tasks = json.loads((site.trainer / "census.json").read_text())["tasks"]
    assert tasks["bright"]["train"] == {"labels": "12", "classes": {"0": "6", "1": "6"}}
    assert tasks["bright"]["val"] == {"labels": "<5", "classes": {"0": "<5", "1": "<5"}}
