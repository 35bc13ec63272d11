"""Going back to an older round of a study, and undoing that. Nothing is deleted: what is newer is set aside.

aside/003-to-000005/   the third time that files were set aside; the site went back to round 5
"""

from __future__ import annotations

import re
from pathlib import Path

from polyward_client.trainer.vault.moves import Move, move
from polyward_client.trainer.vault.vault import FINAL, Vault
from polyward_shared.problems import Problem

GROUP = re.compile(r"(\d{3,})-to-(\d{6,})")


def roll_back(vault: Vault, round: int) -> list[str]:
    """The next round begins with the branches of this one. Returns what was set aside. Raises `Problem`."""
    rounds = vault.kept_rounds()
    entry = vault.at(round)
    if entry is None:
        raise Problem(
            str(vault.folder),
            f"round {round} is not kept",
            expected=f"one of {', '.join(map(str, rounds))}" if rounds else "a study that was trained here",
            remedy="choose one that `polyward-node vault history` shows",
        )
    vault.arrays(entry)  # whole, before anything moves
    newer = _newer(vault, round)
    if not newer:
        raise Problem(
            str(vault.folder), f"round {round} is the newest already", remedy="there is nothing to go back on"
        )
    move(vault.folder, _aside(vault, newer, round))
    return newer


def undo(vault: Vault) -> tuple[int, list[str], list[str]]:
    """Takes back the last going back: what was set aside comes back, and what was trained since is set aside.

    Returns the round that it had gone back to, and both lists. Raises `Problem`.
    """
    vault.kept_rounds()  # ends what was begun
    groups = _groups(vault)
    if not groups:
        raise Problem(
            str(vault.folder), "nothing was set aside", remedy="only a `polyward-node vault rollback` can be undone"
        )
    _, round, folder = groups[-1]
    back = sorted(path.name for path in folder.iterdir())
    newer = sorted({*_newer(vault, round), *(name for name in back if (vault.folder / name).exists())})
    returns = [(f"aside/{folder.name}/{name}", name) for name in back]
    move(vault.folder, [*_aside(vault, newer, round), *returns])
    return round, back, newer


def _newer(vault: Vault, round: int) -> list[str]:
    """Names of files from later rounds; they need not be whole."""
    names = [vault.round_path(number).name for number in vault.kept_rounds() if number > round]
    return [*names, FINAL] if _final_is_newer(vault, round) else names


def _final_is_newer(vault: Vault, round: int) -> bool:
    try:
        final = vault.final()
    except Problem:
        return True
    return final is not None and final.round > round


def _aside(vault: Vault, names: list[str], round: int) -> list[Move]:
    number = max((number for number, _, _ in _groups(vault)), default=0) + 1
    return [(name, f"aside/{number:03}-to-{round:06}/{name}") for name in names]


def _groups(vault: Vault) -> list[tuple[int, int, Path]]:
    """Number, round that it went back to, and folder of each time, in order."""
    found = [(GROUP.fullmatch(path.name), path) for path in (vault.folder / "aside").glob("*")]
    return sorted((int(match[1]), int(match[2]), path) for match, path in found if match)
