"""What the hub need not keep for ever: states of rounds in the middle of studies that have ended, and old sign-ins.

Always kept: everything of a study that has not ended; of the others the first state, the last one with what its rule
remembers, and the newest so many; every state that a tag, a release or an import names, or that a study starts with;
and every file that no round names. Figures and events stay whatever is removed here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from polyward_server import audit
from polyward_server.ledger import Ledger
from polyward_server.records import ENDED, Event, Round, State
from polyward_server.registry import Registry
from polyward_server.tables import failures, imports, releases, sessions, studies, tags
from polyward_shared.chain import sync_folder

DAY_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class Unneeded:
    """Of one study: the rounds whose states may go, the digests of these states and memories, and their size."""

    study: str
    rounds: tuple[int, ...]
    digests: tuple[str, ...]
    bytes: int


def unneeded(ledger: Ledger, registry: Registry, keep_rounds: int) -> list[Unneeded]:
    """What may be removed when the `keep_rounds` newest rounds of each ended study are kept. Changes nothing."""
    named, here = named_states(ledger), registry.digests()
    needed, others = set(named), list[tuple[str, list[Round]]]()
    for study in ledger.studies_in(*State):
        rounds = ledger.rounds(study)
        ended = ledger.study_state(study)[0] in ENDED
        kept = [one for one in rounds if not ended or one in (rounds[0], *rounds[-keep_rounds:]) or named & _both(one)]
        needed |= {digest for one in kept for digest in (one.state, one.memory)}
        others.append((study, [one for one in rounds if one not in kept]))
    found = []
    for study, rounds in others:
        going = {digest: one.number for one in rounds for digest in (one.state, one.memory)}
        digests = tuple(digest for digest in going if digest in here - needed)
        size = sum(registry.path(digest).stat().st_size for digest in digests)
        if digests:
            found.append(Unneeded(study, tuple(sorted({going[digest] for digest in digests})), digests, size))
    return found


def remove(ledger: Ledger, registry: Registry, found: Sequence[Unneeded], *, actor: str) -> None:
    """Removes the files: first an event says so for each study, unless it has not ended any more."""
    for each in found:
        with ledger.engine.begin() as db:
            audit.take_turn(db)
            state = db.execute(sa.select(studies.c.state).where(studies.c.digest == each.study)).scalar_one()
            if state not in ENDED:
                continue
            detail = f"{len(each.digests)} states of rounds {_spans(each.rounds)}, {each.bytes / 1e6:.1f} MB"
            audit.append(db, Event(each.study, each.rounds[-1], "", "pruned", detail, actor))
        for digest in each.digests:
            registry.path(digest).unlink(missing_ok=True)
        sync_folder(registry.folder)


def forget_sign_ins(ledger: Ledger, days: float) -> int:
    """Removes who was signed in and who failed to sign in longer ago than this; how many rows."""
    before = time.time() - days * DAY_SECONDS
    with ledger.engine.begin() as db:
        gone = [db.execute(sa.delete(failures).where(failures.c.at < before))]
        gone.append(db.execute(sa.delete(sessions).where(sessions.c.seen < before)))
        return sum(each.rowcount for each in gone)


def named_states(ledger: Ledger) -> set[str]:
    """States that somebody may ask for by name, and those that studies start with."""
    with ledger.engine.connect() as db:
        columns = (tags.c.encoder, releases.c.encoder, imports.c.encoder)
        named = {digest for column in columns for digest in db.execute(sa.select(column)).scalars()}
    return named | {ledger.study(study).encoder.start for study in ledger.studies_in(*State)}


def _both(one: Round) -> set[str]:
    """The digests by which a round's state may be named."""
    return {one.state, one.encoder}


def _spans(numbers: Sequence[int]) -> str:
    """Such as 1-3, 5 for 1, 2, 3 and 5."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join("-".join(map(str, span)) for span in spans)
