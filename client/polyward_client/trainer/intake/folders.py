"""Images in folders: one file each, masks beside them or in a folder of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from polyward_client.trainer.intake.found import Found, Survey, examples
from polyward_client.trainer.intake.walk import form_of, stem_of
from polyward_shared.problems import Problem

MASK_SUFFIXES = ("_mask", ".mask", "-mask", "_masks", "_seg", "-seg", "_segmentation", "_label", "_gt")
MASK_FOLDERS = ("masks", "mask", "segmentations", "segmentation", "labels", "annotations")
IMAGE_FOLDERS = ("images", "image", "imgs", "img")
COLUMN = "mask"
DIMS = {"raster": 2, "numpy": 2, "nifti": 3}
WAYS = "--patient folder, --patient file, or --patient with a regular expression whose group is the patient"

Key = tuple[tuple[str, ...], str]


def find_images(names: Sequence[str], *, patient: str, masks: str) -> Survey:
    """Every image below the root. Raises `Problem`.

    `patient` is `folder` (the innermost folder that is not called images), `file`, or a regular expression with one
    group that is searched in the path. `masks` is the one ending or folder that masks have; those that are usual when
    it is empty.
    """
    every = [name for name in names if form_of(name) in DIMS]
    suffixes, folders = ((masks,), (masks.strip("/"),)) if masks else (MASK_SUFFIXES, MASK_FOLDERS)
    marked = {name: key for name in every if (key := _mask_key(name, suffixes, folders))}
    keys = {name: _key(name, folders) for name in every if name not in marked}
    by_key = {key: name for name, key in marked.items()}
    if marked and not set(by_key) & set(keys.values()):  # names that only look like masks
        marked, by_key, keys = {}, {}, {name: _key(name, ()) for name in every}
    who = _patients(list(keys), patient)
    found = [
        Found(
            path=name,
            patient=who[name],
            dims=DIMS[str(form_of(name))],
            masks={COLUMN: by_key[key]} if key in by_key else {},
            keys={"path": name, "name": PurePosixPath(name).name, "stem": stem_of(name), "patient": who[name]},
        )
        for name, key in keys.items()
        if name in who
    ]
    notes = []
    if marked:
        notes.append(f"{sum(bool(item.masks) for item in found)} images have a mask")
    if lonely := [name for key, name in by_key.items() if key not in set(keys.values())]:
        notes.append(f"{len(lonely)} masks have no image: {examples(lonely)}")
    if masks and not marked:
        notes.append(f"no mask was found by {masks!r}")
    if nameless := [name for name in keys if name not in who]:
        notes.append(f"{len(nameless)} images are left out, for --patient finds no patient in: {examples(nameless)}")
    return Survey("folder", tuple(found), tuple(notes))


def _patients(names: Sequence[str], way: str) -> dict[str, str]:
    """The patient of each image. It is never guessed: a wrong guess puts one patient into two splits."""
    if not way:
        raise Problem(
            "--patient",
            f"is needed to know whose images these are: {examples(names)}",
            expected=WAYS,
            remedy="choose one; if each image is of another patient, --patient file",
        )
    if way == "file":
        return {name: stem_of(name) for name in names}
    if way == "folder":
        return {name: folders[-1] for name in names if (folders := _folders(name, IMAGE_FOLDERS))}
    try:
        pattern = re.compile(way)
    except re.error as error:
        raise Problem("--patient", f"{way!r} is no regular expression ({error})", expected=WAYS) from None
    if pattern.groups != 1:
        raise Problem("--patient", f"{way!r} has {pattern.groups} groups", expected="one group, such as (P[0-9]+)_")
    return {name: match[1] for name in names if (match := pattern.search(name)) and match[1]}


def _mask_key(name: str, suffixes: Sequence[str], folders: Sequence[str]) -> Key | None:
    """The key of the image that this file is a mask of, if its name says that it is a mask."""
    there, stem = _key(name, folders)
    if suffix := next((suffix for suffix in suffixes if stem.endswith(suffix) and stem != suffix), None):
        return there, stem.removesuffix(suffix)
    return (there, stem) if any(part in folders for part in PurePosixPath(name).parts[:-1]) else None


def _key(name: str, folders: Sequence[str]) -> Key:
    """Equal for an image and its mask: `a/images/1.png` and `a/masks/1.png`."""
    return tuple(_folders(name, (*folders, *IMAGE_FOLDERS))), stem_of(name)


def _folders(name: str, without: Sequence[str]) -> list[str]:
    return [part for part in PurePosixPath(name).parts[:-1] if part not in without]
