"""A table of labels -> the columns of the images that it speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polyward_client.trainer.intake.found import Found
from polyward_client.trainer.manifest import FIXED, read_table
from polyward_shared.problems import Problem

ROWS_SHOWN = 5
LONGEST_LIST = 40  # columns that a message lists


@dataclass(frozen=True, slots=True)
class Labels:
    """`cells[i]` are the label cells of image i by column, empty where the table says nothing."""

    columns: tuple[str, ...]
    cells: tuple[dict[str, str], ...]
    notes: tuple[str, ...]


def join_labels(found: Sequence[Found], table: Path, on: str, take: Sequence[str]) -> Labels:
    """The columns `take` of a table whose column `on` says which image or patient a row speaks of. Raises `Problem`.

    What `on` holds is recognised: a path, a file's name with or without its ending, a patient, ... whichever fits most
    rows. Rows are named by their numbers, never by what they hold: a table may be full of names.
    """
    rows = read_table(table, remedy="check the path")
    _check_columns(table, list(rows.columns), on, take)
    stated: dict[str, tuple[str, ...]] = {}
    same, contrary = [], dict[str, list[int]]()
    for number, (key, *values) in enumerate(rows[[on, *take]].itertuples(index=False), start=2):
        if not key:
            continue
        if key not in stated:
            stated[key] = tuple(values)
        elif stated[key] == tuple(values):
            same.append(number)
        else:
            contrary.setdefault(key, []).append(number)
    way = _way(found, set(stated))
    known = {item.keys.get(way, "") for item in found}
    if not known & set(stated):
        raise Problem(
            str(table),
            f"no row's {on} is a path, a file's name or a patient of the images",
            expected=f"a column that holds one, such as {found[0].keys['path']}" if found else "images",
            remedy="name another column with --on, or write identifiers as the images have them",
        )
    notes = [f"{sum(item.keys.get(way) in stated for item in found)} of {len(found)} images have a row, by {way}"]
    lines = [n for n, key in enumerate(rows[on], start=2) if key and key not in known]
    if lines:
        notes.append(f"{len(lines)} rows belong to no image: {_numbers(lines)}")
    if same:
        notes.append(f"{len(same)} rows repeat another one and change nothing: {_numbers(same)}")
    if contrary:
        lines = sorted(number for numbers in contrary.values() for number in numbers)
        notes.append(f"{len(lines)} rows contradict an earlier one of the same {on}; none is used: {_numbers(lines)}")
    empty = ("",) * len(take)
    cells = []
    for item in found:
        key = item.keys.get(way, "")
        cells.append(dict(zip(take, empty if key in contrary else stated.get(key, empty), strict=True)))
    return Labels(tuple(take), tuple(cells), tuple(notes))


def _check_columns(table: Path, there: list[str], on: str, take: Sequence[str]) -> None:
    listed = ", ".join(there[:LONGEST_LIST])
    if on not in there:
        raise Problem(str(table), f"has no column {on!r}", expected=f"one of {listed}", remedy="name one with --on")
    if not take:
        raise Problem(
            str(table),
            f"has the columns {listed}, and none was asked for",
            expected="the columns that are labels",
            remedy="name each with --take, or name the site's tasks in site.toml; no other column is copied",
        )
    if missing := [column for column in take if column not in there]:
        raise Problem(
            str(table),
            f"has no column {', '.join(missing)}",
            expected=f"some of {listed}",
            remedy="name those that are labels with --take; a task whose masks are files needs none here: name the "
            "masks' column under [data.columns] of site.toml",
        )
    if wrong := [column for column in take if column in FIXED]:
        raise Problem("--take", f"found {', '.join(wrong)}", expected="labels: these columns are the manifest's own")


def _way(found: Sequence[Found], stated: set[str]) -> str:
    """The key by which most of the table's rows are known; the earlier one among equals."""
    ways = list(dict.fromkeys(way for item in found for way in item.keys))
    fits = {way: len(stated & {item.keys.get(way, "") for item in found}) for way in ways}
    return max(ways, key=lambda way: (fits[way], -ways.index(way)), default="path")


def _numbers(lines: Sequence[int]) -> str:
    more = f" and {len(lines) - ROWS_SHOWN} more" if len(lines) > ROWS_SHOWN else ""
    return f"row{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines[:ROWS_SHOWN]))}{more}"
