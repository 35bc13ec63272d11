"""What was found in a data root, before labels and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Form = Literal["folder", "nifti", "dicom"]
SHOWN = 3  # examples of what was left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One image. `path` and `masks` (by column) are relative to the data root; `patient` is what the manifest will say.

    `keys` is what a table of labels may know the image by; it may hold true identifiers, so it is never written.
    """

    path: str
    patient: str
    dims: int  # spatial axes
    masks: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Survey:
    """All images of a data root, and sentences about what was seen and what was left out."""

    form: Form
    found: tuple[Found, ...]
    notes: tuple[str, ...]


def examples(items: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
