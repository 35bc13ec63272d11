"""What generated data look like on disk: images that say so themselves, a manifest, site files, and a marker.

A `GENERATED.txt` beside every manifest lets later steps say, wherever the results are shown, that no patient stands
behind them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

MARKER = "GENERATED.txt"
NOTICE = "GENERATED images: drawn by a computer program. They stand for no patients and are no medical evidence."
FIXED = ("path", "patient_id", "split")  # the manifest's first columns


def is_generated(data_root: Path) -> bool:
    """Whether the images under a site's data root were written by our generators."""
    return (data_root / MARKER).is_file()


def device_note(data_root: Path) -> str:
    """The device that the generator imitated, in words; empty for images that it did not write."""
    if not is_generated(data_root):
        return ""
    lines = (data_root / MARKER).read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix("Device: ") for line in lines if line.startswith("Device: ")), "")


def write_marker(folder: Path, device: str) -> None:
    (folder / MARKER).write_text(f"{NOTICE}\nDevice: {device}.\n", encoding="utf-8")


def suffix_for(channels: int, dimensions: int) -> str:
    """The file format for an image: PNG for grey and colour, NIfTI for volumes, else a numpy file."""
    if dimensions == 3:
        return ".nii.gz"
    return ".png" if channels in (1, 3) else ".npy"


def write_array(path: Path, values: NDArray[np.uint8], *, width_mm: float) -> None:
    """Writes [*spatial] or [channels, *spatial] in the format that the name says; `width_mm` of a volume's first axis.

    A numpy file has no place for a comment; the marker beside the manifest speaks for it.
    """
    if path.suffix == ".png":
        comment = PngImagePlugin.PngInfo()
        comment.add_text("Comment", NOTICE)
        Image.fromarray(values if values.ndim == 2 else values.transpose(1, 2, 0)).save(path, pnginfo=comment)
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        stored = np.moveaxis(values, 0, -1) if values.ndim == 4 else values
        spacing = width_mm / stored.shape[0]
        volume: Any = nib.Nifti1Image(stored, np.diag([spacing, spacing, spacing, 1.0]))  # type: ignore[no-untyped-call]
        volume.header["descrip"] = b"GENERATED: stands for no patient"
        nib.save(volume, path)


def write_manifest(folder: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """`manifest.csv` with the fixed columns first."""
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*FIXED, *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def site_text(name: str, tasks: Sequence[str], device: str, *, further: str = "") -> str:
    """The `site.toml` of a simulated hospital whose data lie in `../data/<name>`; `further` is added at its end."""
    return f"""\
# {NOTICE}
# A simulated hospital. Device: {device}.

name = {json.dumps(name)}
tasks = {json.dumps(list(tasks))}

[data]
root = {json.dumps(f"../data/{name}")}

[device]
kind = "cpu"
{further}"""
