"""What the ledger tells of the states in the registry: where each was made, its tags and releases, and its names.

A person names a state by its digest, by that of its encoder alone, by the beginning of either, by a tag or a release.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from polyward_server.ledger import Ledger
from polyward_server.registry.states import SOURCE, Registry, printable
from polyward_server.tables import imports, releases, rounds, studies, tags
from polyward_shared.problems import Problem
from polyward_shared.states import read_stamp

SHORTEST = 8  # digits of a digest that name it
DIGITS = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Made:
    """A committed round."""

    study: str
    study_id: str
    round: int
    state: str
    encoder: str  # digest of the encoder alone
    at: datetime


@dataclass(frozen=True, slots=True)
class Brought:
    """An imported encoder; `lineage` is what its signed release said of it, if it had one."""

    state: str
    source: str
    lineage: Mapping[str, Any]
    at: datetime

    @property
    def encoder(self) -> str:
        return self.state


@dataclass(frozen=True)
class Catalogue:
    """All that is known of states, as of one moment."""

    made: tuple[Made, ...]  # in the order of commitment
    brought: Mapping[str, Brought]  # by state
    tags: Mapping[str, str]  # to the state
    releases: Mapping[str, str]

    @cached_property
    def origins(self) -> dict[str, Made | Brought]:
        """Where each state was first: a later round, or an import, may come to the very same."""
        found: dict[str, Made | Brought] = dict(self.brought)
        for each in self.made:
            if each.state not in found or each.at < found[each.state].at:
                found[each.state] = each
        return found

    @cached_property
    def digests(self) -> dict[str, str]:
        """The state that each digest names. An encoder that lies in several states, beside other branches, names the
        last of them."""
        found = {each.encoder: each.state for each in self.made}
        return found | {state: state for state in self.origins}

    def start_of(self, study: str, start: str) -> Made | Brought | None:
        """The first state that had the encoder with which a study begins; None where only the study itself has it."""
        known = (each for each in self.origins.values() if start in (each.state, each.encoder))
        first = min(known, key=lambda each: each.at, default=None)
        return None if isinstance(first, Made) and first.study == study else first

    def round_of(self, study: str, number: int) -> Made | None:
        return self._rounds.get((study, number))

    @cached_property
    def _rounds(self) -> dict[tuple[str, int], Made]:
        return {(each.study, each.round): each for each in self.made}

    def tags_of(self, state: str) -> tuple[str, ...]:
        return tuple(self._tags.get(state, ()))

    def releases_of(self, state: str) -> tuple[str, ...]:
        return tuple(self._releases.get(state, ()))

    @cached_property
    def _tags(self) -> dict[str, list[str]]:
        return _turned(self.tags)

    @cached_property
    def _releases(self) -> dict[str, list[str]]:
        return _turned(self.releases)

    def named(self, name: str) -> str:
        """The digest of the state that a person means. Raises `Problem`."""
        for known in (self.tags, self.releases, self.digests):
            if name in known:
                return known[name]
        lowered = name.lower()
        if len(name) < SHORTEST or not DIGITS.fullmatch(lowered):
            raise Problem(
                repr(name),
                "is the name of no encoder here",
                expected=f"a tag, a release, or at least {SHORTEST} digits of a digest",
                remedy="polyward-hub encoders HUB lists them",
            )
        found = sorted({state for digest, state in self.digests.items() if digest.startswith(lowered)})
        if len(found) > 1:
            raise Problem(
                repr(name),
                f"begins the digests of {len(found)} encoders: {', '.join(each[:16] for each in found[:3])}",
                remedy="write more digits",
            )
        if not found:
            raise Problem(repr(name), "begins no digest here", remedy="polyward-hub encoders HUB lists them")
        return found[0]


def is_free(name: str) -> None:
    """Raises `Problem` for a tag or release that would be taken for a digest."""
    if len(name) >= SHORTEST and DIGITS.fullmatch(name.lower()):
        raise Problem(repr(name), "could be taken for the beginning of a digest", remedy="choose another name")


def read_catalogue(ledger: Ledger, registry: Registry) -> Catalogue:
    """Reads it from the ledger, and from files that were imported before the ledger kept a record of it."""
    joined = rounds.join(studies, rounds.c.study == studies.c.digest)
    order = (rounds.c.committed, rounds.c.study, rounds.c.round)
    with ledger.engine.connect() as db:
        made = tuple(
            Made(row.study, row.id, row.round, row.state, row.encoder, datetime.fromisoformat(row.committed))
            for row in db.execute(sa.select(rounds, studies.c.id).select_from(joined).order_by(*order))
        )
        memories = set(db.execute(sa.select(rounds.c.memory).distinct()).scalars())
        brought = {
            row.encoder: Brought(row.encoder, row.source, json.loads(row.lineage), datetime.fromisoformat(row.at))
            for row in db.execute(sa.select(imports).order_by(imports.c.at))
        }
        tagged = {row.tag: row.encoder for row in db.execute(sa.select(tags))}
        released = {row.name: row.encoder for row in db.execute(sa.select(releases.c.name, releases.c.encoder))}
    known = {each.state for each in made} | brought.keys() | memories
    unrecorded = {each.state: each for each in (_unrecorded(registry, s) for s in registry.digests() - known) if each}
    return Catalogue(made, unrecorded | brought, tagged, released)


def _unrecorded(registry: Registry, state: str) -> Brought | None:
    """An import of which only the file tells; None for a state whose round was never committed."""
    path = registry.path(state)
    try:
        source = read_stamp(path).get(SOURCE)
        at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (Problem, OSError):  # damaged, or removed meanwhile
        return None
    return Brought(state, printable(source), {}, at) if source is not None else None


def _turned(names: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        found[names[name]].append(name)
    return found
