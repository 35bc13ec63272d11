"""Several files of one study change their places: all of them, whatever is killed in between.

What is to be moved is written down first. From then on the moves count: whoever looks into the folder next ends them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from polyward_shared.chain import sync_folder
from polyward_shared.problems import Problem
from polyward_shared.whole import make_private, whole_file

PENDING = "moves.json"
PLACE = re.compile(r"(aside/\d+-to-\d+/)?(round-\d+|final)\.safetensors")
Move = tuple[str, str]  # from and to, relative to the study's folder


def move(folder: Path, moves: Sequence[Move]) -> None:
    """Makes all moves, in order. None takes the place of a file."""
    with whole_file(folder / PENDING) as file:
        file.write(json.dumps(moves).encode())
    finish_moves(folder)


def finish_moves(folder: Path) -> None:
    """Ends what `move` began before a crash: those that were made have no source any more, or a target already."""
    pending = folder / PENDING
    if not pending.exists():
        return
    moves = _read(pending)
    for source, target in ((folder / source, folder / target) for source, target in moves):
        make_private(target.parent)
        if source.exists() and not target.exists():
            os.replace(source, target)
            sync_folder(target.parent)
            sync_folder(source.parent)
    for left in {(folder / source).parent for source, _ in moves} - {folder}:
        if left.is_dir() and not any(left.iterdir()):
            left.rmdir()
    pending.unlink()
    sync_folder(folder)


def _read(pending: Path) -> list[Move]:
    """The moves, each within the study's folder: who may write there must not move an administrator's files."""
    try:
        moves = [(str(source), str(target)) for source, target in json.loads(pending.read_bytes())]
    except (ValueError, TypeError):
        moves = [("", "")]
    if not all(PLACE.fullmatch(name) for pair in moves for name in pair):
        raise Problem(
            str(pending),
            "is damaged",
            expected="which files of this study a rollback moves",
            remedy="move it away, and look with `polyward-node vault history` at what is where",
        )
    return moves
