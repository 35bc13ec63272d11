"""Contact sheets: what the trainer sees of each task, drawn into the site's own folder. They never leave it.

A picture is shown in the study's form, a volume as the slice that has most of what is labelled. Beside the row's number
stand split and label; no path and no patient.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from polyward_client.trainer import images
from polyward_client.trainer.cells import CellError, inside
from polyward_client.trainer.dataset import Dataset
from polyward_client.trainer.form import shaped
from polyward_client.trainer.manifest import SPLITS, Case, Manifest
from polyward_client.trainer.tasks import TaskKind, kinds_of
from polyward_shared.problems import Problem
from polyward_shared.study import Study

MOST = 40  # images of one sheet
ACROSS = 8
SIDE = 160  # pixels of a tile's longer side
GAP, LINE = 8, 14
TITLE = 26
BACK, INK, FAINT = (24, 26, 30), (235, 235, 235), (150, 155, 165)
COLOURS = ((255, 96, 64), (64, 200, 255), (120, 230, 90), (255, 210, 60), (210, 120, 255), (255, 130, 190))
DRAWN_BY_CLASS = frozenset({"segmentation", "detection"})
UNUSED = "unused"  # no task has this name's file: theirs begin with `task.`

Pixels = NDArray[np.uint8]


def draw_previews(folder: Path, manifest: Manifest, data: Dataset, study: Study, *, root: Path) -> list[Path]:
    """A sheet for each task, and one of the rows that are not used, in `folder` (0700); older ones there go.

    Returns the sheets' paths. Raises `Problem`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_mode & 0o077:
            raise Problem(
                str(folder), "other users may look into this folder", remedy="chmod 700, or name a new one: --previews"
            )
        for old in (*folder.glob("task.*.png"), folder / f"{UNUSED}.png"):
            old.unlink(missing_ok=True)
        sheets = []
        kinds = kinds_of(study, manifest.tasks)
        for task in manifest.tasks:
            places = _spread(data, task)
            tiles = [_tile(data, kinds[task], task, place, manifest.cases[place], study) for place in places]
            total = sum(len(data.cases(split, task)) for split in SPLITS)
            title = f"{task} ({study.tasks[task].kind}): {len(tiles)} of {total} labelled images"
            names = getattr(study.tasks[task], "classes", ()) if study.tasks[task].kind in DRAWN_BY_CLASS else ()
            sheets.append(_write(folder / f"task.{task}.png", title, tiles, names))
        if manifest.unused:
            tiles = [_unused_tile(row.path, row.row, study, root) for row in manifest.unused[:MOST]]
            title = f"{len(tiles)} of {len(manifest.unused)} rows that are not used: {manifest.unused[0].reason}"
            sheets.append(_write(folder / f"{UNUSED}.png", title, tiles))
    except OSError as error:
        raise Problem(
            str(folder), f"previews cannot be written ({error.strerror})", remedy="--previews FOLDER"
        ) from None
    return sheets


def _spread(data: Dataset, task: str) -> list[int]:
    """At most `MOST` labelled cases, from all splits in proportion, far apart in the manifest."""
    every = np.concatenate([data.cases(split, task) for split in SPLITS])
    return [int(every[place]) for place in np.linspace(0, len(every) - 1, min(MOST, len(every))).round().astype(int)]


def _tile(data: Dataset, kind: TaskKind, task: str, place: int, case: Case, study: Study) -> tuple[Pixels, list[str]]:
    """The picture with its label drawn in, and the lines below it."""
    values = data.images[place].numpy()
    target = data.targets[task][data.rows[task][place]].cpu().numpy()
    level = _level(target, kind, values.ndim - 1)
    picture = Image.fromarray(_grey(values if level is None else values[..., level]))
    scale = SIDE / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    _mark(picture, target, kind, level, scale)
    pixels = np.asarray(picture)
    if kind.moves == "image" and not _is_mask(target, kind):  # another picture: beside it
        other = target if level is None else target[..., level]
        pixels = np.concatenate((pixels, np.asarray(Image.fromarray(_grey(other)).resize(picture.size))), axis=1)
    return pixels, [f"row {case.row}, {case.split}", _words(kind, case.labels[task])]


def _grey(values: NDArray[Any]) -> Pixels:
    """[channels, rows, columns] of any range -> [rows, columns, 3] of 8 bits; three channels are colours."""
    low, high = float(values.min()), float(values.max())
    scaled = np.clip((values - low) / (high - low if high > low else 1) * 255, 0, 255).astype(np.uint8)
    return np.stack([scaled[place if len(scaled) == 3 else 0] for place in range(3)], axis=-1)


def _is_mask(target: NDArray[Any], kind: TaskKind) -> bool:
    return kind.moves == "labels" or (kind.moves == "image" and kind.channels == 2 and target.shape[0] == 2)


def _mask(target: NDArray[Any], kind: TaskKind) -> NDArray[Any]:
    """[*spatial] labels; of a tube, its mask."""
    return target if kind.moves == "labels" else (target[0] > 0.5).astype(np.uint8)


def _level(target: NDArray[Any], kind: TaskKind, dims: int) -> int | None:
    """The slice of a volume that has most of the label, or the middle one; None in two dimensions."""
    if dims == 2:
        return None
    if _is_mask(target, kind) and (there := _mask(target, kind) > 0).any():
        return int(there.sum(axis=(0, 1)).argmax())
    if kind.moves in {"points", "boxes"} and len(places := target[np.isfinite(target).all(-1)]):
        return round(float(places[0, 2] if kind.moves == "points" else (places[0, 2] + places[0, 5]) / 2))
    return None if target.ndim < dims else target.shape[-1] // 2


def _mark(picture: Image.Image, target: NDArray[Any], kind: TaskKind, level: int | None, scale: float) -> None:
    """Draws contours, points or boxes onto the picture."""
    draw = ImageDraw.Draw(picture)
    if _is_mask(target, kind):
        mask = _mask(target, kind)
        mask = mask if level is None else mask[..., level]
        large = np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST))
        pixels = np.array(picture)
        for label in np.unique(large[large > 0]):
            inner = large == label
            pixels[inner & ~binary_erosion(inner)] = COLOURS[(int(label) - 1) % len(COLOURS)]
        picture.paste(Image.fromarray(pixels))
    elif kind.moves == "points":
        for number, (row, column) in enumerate((target[:, :2] + 0.5) * scale):
            if np.isfinite(row + column):
                colour = COLOURS[number % len(COLOURS)]
                draw.line((column - 4, row, column + 4, row), fill=colour)
                draw.line((column, row - 4, column, row + 4), fill=colour)
    elif kind.moves == "boxes":
        dims = (target.shape[1] - 1) // 2
        for box in target[np.isfinite(target).all(-1)]:
            (top, left), (bottom, right) = (box[:2] + 0.5) * scale, (box[dims : dims + 2] + 0.5) * scale
            draw.rectangle((left, top, right - 1, bottom - 1), outline=COLOURS[int(box[-1]) % len(COLOURS)])


def _words(kind: TaskKind, label: Any) -> str:
    """The label in a few words."""
    if isinstance(label, Path):
        return ""
    if (name := kind.class_of(label)) is not None:
        return name
    if kind.moves == "boxes":
        return f"{len(label)} boxes"
    if kind.moves == "points":
        return f"{sum(np.isfinite(place).all() for place in label)} points"
    numbers = label if isinstance(label, tuple) else (label,)
    return " ".join("?" if np.isnan(number) else f"{number:g}" for number in numbers)


def _unused_tile(name: str, row: int, study: Study, root: Path) -> tuple[Pixels, list[str]]:
    try:
        picture = images.read_image(inside(name, root.resolve(), "path"), len(study.image.size))
        values = torch.from_numpy(shaped(picture, study.image, where=f"row {row}")).numpy()
        values = values if values.ndim == 3 else values[..., values.shape[-1] // 2]
        small = Image.fromarray(_grey(values))
        scale = SIDE / max(small.size)
        pixels = np.asarray(small.resize((max(1, round(small.width * scale)), max(1, round(small.height * scale)))))
    except (Problem, CellError):
        return np.zeros((SIDE, SIDE, 3), np.uint8), [f"row {row}", "cannot be shown"]
    return pixels, [f"row {row}"]


def _write(path: Path, title: str, tiles: Sequence[tuple[Pixels, list[str]]], names: Sequence[str] = ()) -> Path:
    """The sheet as a PNG that only this user can read, whole or not at all. `names` are told in their colours."""
    width = max((pixels.shape[1] for pixels, _ in tiles), default=SIDE)
    height = max((pixels.shape[0] for pixels, _ in tiles), default=SIDE)
    across = min(ACROSS, max(1, len(tiles)), max(1, ACROSS * SIDE // width))
    lines = max((len(words) for _, words in tiles), default=0)
    down = -(-len(tiles) // across)
    step = (width + GAP, height + lines * LINE + GAP)
    font = ImageFont.load_default(size=11)
    head = ImageFont.load_default(size=14)
    places = [
        GAP + round(head.getlength("    ".join((title, *names[:number])) + "    ")) for number in range(len(names))
    ]
    room = max(across * step[0] + GAP, round(head.getlength("    ".join((title, *names)))) + 2 * GAP)
    sheet = Image.new("RGB", (room, TITLE + down * step[1] + GAP), BACK)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 5), title, fill=INK, font=head)
    for number, (name, left) in enumerate(zip(names, places, strict=True)):
        draw.text((left, 5), name, fill=COLOURS[number % len(COLOURS)], font=head)
    for place, (pixels, words) in enumerate(tiles):
        left, top = GAP + place % across * step[0], TITLE + GAP + place // across * step[1]
        sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)), (left, top))
        for number, text in enumerate(words):
            draw.text(
                (left, top + height + 1 + number * LINE),
                _cut(text, font, width),
                fill=FAINT if number == 0 else INK,
                font=font,
            )
    packed = io.BytesIO()
    sheet.save(packed, "PNG")
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    with os.fdopen(descriptor, "wb") as file:
        file.write(packed.getvalue())
    os.replace(draft, path)
    return path


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """As much of the text as fits."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
