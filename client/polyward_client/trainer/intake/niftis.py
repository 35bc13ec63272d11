"""NIfTI trees in the manner of BIDS (https://bids-specification.readthedocs.io): `sub-01/anat/sub-01_ses-1_T1w.nii.gz`.

A file's name is entities (`sub-01`, `ses-1`, `desc-lesion`), then a suffix (`T1w`, `mask`). A mask belongs to the
images that have all of its entities, apart from those that describe the mask itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from polyward_client.trainer.intake.found import Found, Survey, examples
from polyward_client.trainer.intake.walk import SUBJECT, form_of, stem_of
from polyward_shared.problems import Problem

MASKS = frozenset({"mask", "dseg", "seg", "roi"})
OWN = frozenset({"desc", "label", "space", "res", "den", "atlas"})  # of a mask, not of its image
COLUMN = "mask"


@dataclass(frozen=True, slots=True)
class _Name:
    path: str
    entities: dict[str, str]
    suffix: str

    @classmethod
    def of(cls, path: str) -> _Name:
        *parts, suffix = stem_of(path).split("_")
        return cls(path, dict(part.split("-", 1) for part in parts if "-" in part), suffix)


def find_volumes(names: Sequence[str], *, suffix: str) -> Survey:
    """The images of one suffix, the most frequent one if it is empty, each with its masks. Raises `Problem`."""
    named = [_Name.of(n) for n in names if form_of(n) == "nifti" and PurePosixPath(n).name.startswith(SUBJECT)]
    masks = [name for name in named if name.suffix in MASKS]
    raw = [n for n in named if n.suffix not in MASKS and "derivatives" not in PurePosixPath(n.path).parts]
    counts = Counter(name.suffix for name in raw)
    if not counts or (suffix and suffix not in counts):
        raise Problem(
            "--suffix" if suffix else "the data root",
            f"no image {f'is a {suffix}' if suffix else 'is named in the manner of BIDS'}",
            expected=f"one of {', '.join(sorted(counts))}" if counts else "names such as sub-01_T1w.nii.gz",
        )
    chosen = suffix or min(counts, key=lambda name: (-counts[name], name))
    notes = [f"{counts[chosen]} images are {chosen}"]
    if others := [f"{count} {name}" for name, count in sorted(counts.items()) if name != chosen]:
        notes.append(f"not used, choose with --suffix: {', '.join(others)}")
    found: list[Found] = []
    twice: list[str] = []
    used: set[str] = set()
    for image in (name for name in raw if name.suffix == chosen):
        own: dict[str, list[str]] = {}
        for mask in masks:
            if _belongs(mask, image):
                own.setdefault(_column(mask), []).append(mask.path)
        used.update(path for paths in own.values() for path in paths)
        twice += [f"{image.path}: {column}" for column, paths in own.items() if len(paths) > 1]
        subject, session = image.entities["sub"], image.entities.get("ses")
        keys = {"path": image.path, "name": PurePosixPath(image.path).name, "stem": stem_of(image.path)}
        keys |= {"patient": subject, "subject": f"sub-{subject}"}
        keys |= {"session": f"sub-{subject}_ses-{session}"} if session else {}
        single = {column: paths[0] for column, paths in own.items() if len(paths) == 1}
        found.append(Found(path=image.path, patient=f"sub-{subject}", dims=3, masks=single, keys=keys))
    if masks:
        columns = Counter(column for item in found for column in item.masks)
        notes += [f"{count} images have a mask in the column {column}" for column, count in sorted(columns.items())]
    if lonely := [mask.path for mask in masks if mask.path not in used]:
        notes.append(f"{len(lonely)} masks have no image: {examples(lonely)}")
    if twice:
        notes.append(f"{len(twice)} images have several masks of one kind, and get none of it: {examples(twice)}")
    return Survey("nifti", tuple(found), tuple(notes))


def _belongs(mask: _Name, image: _Name) -> bool:
    shared = {key: value for key, value in mask.entities.items() if key not in OWN}
    return shared.items() <= image.entities.items()


def _column(mask: _Name) -> str:
    """What the mask shows, as the name of a column."""
    text = mask.entities.get("label") or mask.entities.get("desc") or ""
    column = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return column if column[:1].isalpha() and column not in {"path", "split"} else COLUMN
