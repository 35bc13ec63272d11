"""Which study a person means: by its file, its id, or the beginning of its digest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from polyward_server.ledger import Ledger
from polyward_server.records import State
from polyward_shared.problems import Problem
from polyward_shared.study import read_study

ACTOR = "command line"  # who did it, in the record of events
BEGINNING = re.compile(r"[0-9a-f]{4,64}")

NamedStudy = Annotated[str, typer.Argument(help="the study: its file, its id, or 4 or more digits of its digest")]


def named(ledger: Ledger, word: str) -> str:
    """The digest of the study that is meant. Raises `Problem` when that is none here, or more than one."""
    known = {digest: ledger.study(digest).id for digest in ledger.studies_in(*State)}
    if Path(word).is_file():
        meant = [digest for digest in (read_study(Path(word)).digest(),) if digest in known]
    else:
        meant = [digest for digest, name in known.items() if name == word]
        if not meant and BEGINNING.fullmatch(word):
            meant = [digest for digest in known if digest.startswith(word)]
    if len(meant) == 1:
        return meant[0]
    if not meant:
        raise Problem(word, "no study here is called so", remedy="polyward-hub status HUB lists them")
    found = ", ".join(sorted(f"{known[digest]} {digest[:8]}" for digest in meant))
    raise Problem(word, f"means any of {found}", remedy="say the beginning of its digest")
