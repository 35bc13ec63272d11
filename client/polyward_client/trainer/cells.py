"""The cells of a manifest's row: what stands in one, or exactly what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polyward_client.trainer import images
from polyward_client.trainer.files import shown
from polyward_shared.problems import Problem

LARGEST_NUMBER = 1e18  # its square still fits into float32


class CellError(Exception):
    """One wrong cell, told so that it can be found and mended."""

    def __init__(self, column: str, found: str, expected: str, remedy: str) -> None:
        super().__init__(f"column {column}: found {found}; expected {expected}; what to do: {remedy}")


@dataclass(frozen=True, slots=True)
class Cell:
    """A filled cell: its column, its text, and the folder and image that it belongs to."""

    column: str
    text: str
    root: Path
    size: tuple[int, ...]  # of the image as stored

    def error(self, expected: str, found: str | None = None) -> CellError:
        return CellError(
            self.column, found or shown(self.text), expected, "correct the cell, or empty it if it is not known"
        )

    def number(self) -> float:
        try:
            value = float(self.text)
        except ValueError:
            value = float("nan")
        if not abs(value) < LARGEST_NUMBER:
            raise self.error("a number")
        return value

    def choice(self, names: Sequence[str]) -> int:
        """The place of the class in `names`; a number counted from 0 will do where no name has digits alone."""
        plain = _without_point(self.text)
        if self.text in names or plain in names:
            return list(names).index(self.text if self.text in names else plain)
        if not any(name.isdigit() for name in names) and plain.isdigit() and int(plain) < len(names):
            return int(plain)
        raise self.error(f"one of {', '.join(names)}")

    def file(self) -> Path:
        """A file of the size of the image."""
        path = inside(self.text, self.root, self.column)
        try:
            found = images.extent(path, len(self.size))
        except Problem as problem:
            raise CellError(
                self.column, f"{shown(self.text)}, which {problem.found}", problem.expected or "a mask", "mend it"
            ) from None
        if found != self.size:
            raise CellError(
                self.column,
                f"{shown(self.text)} of size {' x '.join(map(str, found))}",
                f"the size of its image, {' x '.join(map(str, self.size))}",
                "export the mask again from this image",
            )
        return path


def inside(text: str, root: Path, column: str) -> Path:
    """The file that a cell names, which must lie below the root, links followed."""
    if not text:
        raise CellError(column, "nothing", "a path relative to data.root", "fill in the file's path")
    if not text.isprintable():
        raise CellError(column, shown(text), "a path without control characters", "rename the file")
    path = root / text
    try:
        stays, exists = not Path(text).is_absolute() and path.resolve().is_relative_to(root), path.exists()
    except (OSError, RuntimeError):  # a name that is too long, links in a ring, a folder that may not be entered
        raise CellError(column, shown(text), "a path that can be followed", "correct the path") from None
    if not stays:
        raise CellError(column, shown(text), "a path that stays below data.root", "move the file there")
    if not exists:
        raise CellError(column, f"{shown(text)}, which does not exist", "a file below data.root", "correct the path")
    return path


def _without_point(text: str) -> str:
    """`4.0`, as a spreadsheet with empty cells stores 4, is `4`."""
    whole, point, rest = text.partition(".")
    return whole if point and whole.isdigit() and not rest.strip("0") else text
