"""DICOM folders: files -> series -> the ones to use, without a patient's name.

Only the tags listed here are read. Names and true identifiers are compared in memory; none is written, told or logged.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import nibabel
import numpy as np
from pydicom import Dataset

from polyward_client.trainer import dicom
from polyward_client.trainer.files import Unfit
from polyward_client.trainer.images import UNREADABLE
from polyward_client.trainer.intake.found import Found, Survey
from polyward_client.trainer.intake.pseudonyms import Pseudonym
from polyward_client.trainer.intake.walk import dicom_files
from polyward_shared.problems import Problem

TAGS = [
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "PatientName",
    "SOPInstanceUID",
    "AccessionNumber",
    "Modality",
    "SeriesDescription",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
]
LONG = 4  # letters of a name's part that is looked for within words; shorter ones stand there by chance
SERIES_SHOWN = 12  # digits of a series in a path of ours

Choice = Literal["largest", "all"]
Told = Callable[[int, int], None]


@dataclass(slots=True)
class _Series:
    header: Dataset
    files: list[str] = field(default_factory=list)
    frames: int = 0

    def text(self, tag: str) -> str:
        return str(self.header.get(tag) or "").strip()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which series are used. `choice` is by study: the one with most slices, or all; by their kind when empty."""

    modality: str = ""
    description: str = ""  # a regular expression
    choice: Choice | None = None
    sort: str = ""  # the folder below the root in which each series gets one of its own


def find_series(root: Path, names: Sequence[str], wanted: Wanted, pseudonym: Pseudonym, told: Told) -> Survey:
    """The series to use, each a folder or a file. `told(done, of)` is the progress. Raises `Problem`."""
    notes: list[str] = []
    series = _grouped(root, names, notes, told)
    chosen = _chosen(series, wanted, notes)
    found: list[Found] = []
    lost: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    named = 0
    home = _Home(root, names, series, wanted.sort)
    for item in chosen:
        identifier = item.text("PatientID")
        patient = pseudonym(identifier) if identifier else None
        if patient is None:
            lost["has no pseudonym in the table" if identifier else "has no PatientID"] += 1
            continue
        path = home.path(item, patient)
        if path is None:
            lost["shares its folder with other files; --sort FOLDER gives each its own"] += 1
            continue
        if _says_name(path, item.text("PatientName")):
            named += 1
            continue
        try:
            dims, shape = _shape(root / path)
        except Problem as problem:
            lost[problem.found] += 1
            continue
        except UNREADABLE as error:
            lost[str(error) if isinstance(error, Unfit) else "is damaged"] += 1
            continue
        shapes[shape] += 1
        keys = {
            "path": path,
            "patient": identifier,
            "pseudonym": patient,
            "accession": item.text("AccessionNumber"),
            "study": item.text("StudyInstanceUID"),
            "series": item.text("SeriesInstanceUID"),
        }
        found.append(Found(path=path, patient=patient, dims=dims, keys=keys))
    if named:
        raise Problem(
            str(root),
            f"the paths of {named} series hold the name of their patient, and a manifest must not",
            remedy="--sort FOLDER, which gives each series a folder without names below the data root",
        )
    notes += [f"{count} series: {shape}" for shape, count in shapes.most_common()]
    notes += [f"{count} series left out: each {reason}" for reason, count in lost.most_common()]
    return Survey("dicom", tuple(sorted(found, key=lambda item: item.path)), tuple(notes))


def _grouped(root: Path, names: Sequence[str], notes: list[str], told: Told) -> list[_Series]:
    series: dict[str, _Series] = {}
    seen: set[str] = set()
    pictureless = damaged = copies = 0
    for done, name in enumerate(names, start=1):
        told(done, len(names))
        if not any(True for _ in dicom_files(root, [name])):
            continue
        try:
            header = dicom.tags_of(root / name, TAGS)
            frames = int(header.get("NumberOfFrames") or 1)
            key = str(header.SeriesInstanceUID)
        except (Problem, *UNREADABLE):
            damaged += 1
            continue
        if not header.get("Rows") or header.get("Modality") == "SEG":
            pictureless += 1
            continue
        if (unique := f"{key} {header.get('SOPInstanceUID') or name}") in seen:
            copies += 1
            continue
        seen.add(unique)
        item = series.setdefault(key, _Series(header))
        item.files.append(name)
        item.frames += frames
    if pictureless:
        notes.append(f"{pictureless} DICOM files are no images (reports, structures, segmentations)")
    if copies:
        notes.append(f"{copies} DICOM files are copies of others")
    if damaged:
        notes.append(f"{damaged} DICOM files cannot be read")
    return list(series.values())


def _chosen(series: list[_Series], wanted: Wanted, notes: list[str]) -> list[_Series]:
    kinds = Counter(item.text("Modality") or "unstated" for item in series)
    notes.append(f"{len(series)} series: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}")
    try:
        pattern = re.compile(wanted.description, re.IGNORECASE)
    except re.error as error:
        raise Problem("--description", f"is no regular expression ({error})", expected="words, or one") from None
    kept = [
        item
        for item in series
        if "LOCALIZER" not in item.text("ImageType").upper()
        and (not wanted.modality or item.text("Modality").upper() == wanted.modality.upper())
        and pattern.search(item.text("SeriesDescription"))
    ]
    if len(kept) < len(series):
        notes.append(f"{len(series) - len(kept)} series are not wanted (localizers, other modality or description)")
    choice = wanted.choice or ("all" if all(item.frames == 1 for item in kept) else "largest")
    if choice == "all":
        return kept
    best: dict[str, _Series] = {}
    for item in sorted(kept, key=lambda item: (-item.frames, item.files[0])):
        best.setdefault(item.text("StudyInstanceUID"), item)
    if len(best) < len(kept):
        notes.append(
            f"{len(kept) - len(best)} series are not used, for another of their study has more slices (--series all)"
        )
    return list(best.values())


class _Home:
    """Where a series lies: in a file, in a folder that holds nothing else, or in one that is made for it."""

    def __init__(self, root: Path, names: Sequence[str], series: Sequence[_Series], sort: str) -> None:
        self.root, self.sort = root, sort
        self.inside = Counter(str(PurePosixPath(name).parent) for name in names)
        below = PurePosixPath(sort)
        stays = bool(below.parts) and (root / sort).resolve().is_relative_to(root.resolve())
        if sort and (below.is_absolute() or ".." in below.parts or not stays):
            raise Problem("--sort", f"found {sort!r}", expected="a folder below the data root, relative to it")

    def path(self, item: _Series, patient: str) -> str | None:
        if self.sort:
            return self._sorted(item, patient)
        if len(item.files) == 1:
            return item.files[0]
        folders = {str(PurePosixPath(name).parent) for name in item.files}
        folder = min(folders)
        alone = len(folders) == 1 and self.inside[folder] == len(item.files)
        return folder if alone and folder != "." else None

    def _sorted(self, item: _Series, patient: str) -> str:
        """Hard links, or copies where the disk has none: a link by name would lead out of the series' folder."""
        number = hashlib.sha256(item.text("SeriesInstanceUID").encode()).hexdigest()[:SERIES_SHOWN]
        folder = PurePosixPath(self.sort, patient, number)
        try:
            (self.root / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
            for place, name in enumerate(item.files):
                target = self.root / folder / f"{place:05}.dcm"
                if target.exists():
                    continue
                try:
                    os.link(self.root / name, target)
                except OSError:
                    shutil.copyfile(self.root / name, target)
        except OSError as error:
            raise Problem(
                str(self.root / self.sort),
                f"series cannot be put there ({error.strerror})",
                remedy="make the data root writable while the manifest is made",
            ) from None
        return str(folder / "00000.dcm" if len(item.files) == 1 else folder)


def _shape(path: Path) -> tuple[int, str]:
    """Spatial axes of a series, and what it is: one image, or a volume with the way its slices lie and its spacing."""
    if path.is_file():
        return (2, "one image each") if len(dicom.extent(path, 2)) == 2 else (3, "volumes in one file")
    _, affine = dicom.grid(path)
    way = {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal", "S": "axial", "I": "axial"}
    lies = way[nibabel.aff2axcodes(affine)[2]]  # type: ignore[no-untyped-call]
    columns, rows, slices = np.linalg.norm(affine[:3, :3], axis=0)
    return 3, f"{lies} volumes, spacing {rows:.2g} x {columns:.2g} x {slices:.2g} mm"


def _says_name(path: str, name: str) -> bool:
    """Whether a part of the patient's name is a word of the path, or a longer part stands anywhere in it."""
    words = set(_words(path))
    return any(
        part in words or (len(part) >= LONG and part in path.casefold()) for part in _words(name) if len(part) > 1
    )


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\W\d_]+", text.casefold()) if word]
