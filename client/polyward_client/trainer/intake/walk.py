"""All files below the data root that may be images, and which form they have."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from pydicom.misc import is_dicom

from polyward_client.trainer.images import SUFFIXES
from polyward_client.trainer.intake.found import Form
from polyward_shared.problems import Problem

MOST_FILES = 2_000_000
SUBJECT = "sub-"  # how a BIDS tree calls a patient
STATED = frozenset({".dcm", ".ima", ""})  # endings that DICOM files have, the last of them often


def files_below(root: Path, without: Path) -> list[str]:
    """Plain files below `root`, relative to it, in order; not those in the folder `without`.

    What begins with a dot is passed over, and so are links that lead out of the root: no folder is entered by a link.
    Raises `Problem`.
    """
    if not root.is_dir():
        raise Problem(str(root), "there is no such folder", remedy="make it, or set data.root in the site's file")
    home = root.resolve()
    names: list[str] = []
    for folder, inner, files in os.walk(home, followlinks=False):
        here = Path(folder)
        inner[:] = sorted(name for name in inner if not name.startswith(".") and here / name != without.resolve())
        names += (str((here / name).relative_to(home)) for name in files if _welcome(here / name, home))
        if len(names) > MOST_FILES:
            raise Problem(str(root), f"holds more than {MOST_FILES:,} files", remedy="set data.root to a smaller part")
    return sorted(names)


def recognised(root: Path, names: Sequence[str]) -> Form:
    """What most of the files are. Raises `Problem` where nothing is an image."""
    kinds = [form_of(name) for name in names]
    if any(form_of(name) == "nifti" and PurePosixPath(name).name.startswith(SUBJECT) for name in names):
        return "nifti"
    images = sum(kind is not None and kind != "dicom" for kind in kinds)
    if sum(1 for _ in dicom_files(root, names)) > images:
        return "dicom"
    if images:
        return "folder"
    raise Problem(str(root), "holds no images", expected=f"DICOM files, or names that end in {', '.join(SUFFIXES)}")


def dicom_files(root: Path, names: Sequence[str]) -> Iterator[str]:
    """Those that begin as a DICOM file does."""
    for name in names:
        if PurePosixPath(name).suffix.lower() in STATED and is_dicom(root / name):
            yield name


def form_of(name: str) -> str | None:
    """The reader of a file of this name, as `images` has it."""
    return next((form for suffix, form in SUFFIXES.items() if name.lower().endswith(suffix)), None)


def stem_of(name: str) -> str:
    """The file's name without its folder and without the ending that says its kind."""
    last = PurePosixPath(name).name
    suffix = next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if last.lower().endswith(suffix)), "")
    return last[: len(last) - len(suffix)]


def _welcome(path: Path, home: Path) -> bool:
    if path.name.startswith(".") or not path.name.isprintable():
        return False
    try:
        return path.is_file() and (not path.is_symlink() or path.resolve().is_relative_to(home))
    except (OSError, RuntimeError):
        return False
