"""What became of each site's data in one study: what it approved and when, which rounds it took part in, what it sent.

A receipt says nothing but what the ledger says; numbers of labels are told in steps unless exact ones are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from polyward_server.ledger import Ledger
from polyward_server.records import Contribution, Event, Noted
from polyward_server.statements import read_statements
from polyward_shared.buckets import bucket
from polyward_shared.checkpoints import Checkpoint, Receipt
from polyward_shared.pki import is_signed, public_from_pem
from polyward_shared.reading import Frozen
from polyward_shared.schema import Schema


class Turn(StrEnum):
    """What became of a site's part in a round."""

    GAVE = "gave"  # its update is part of the round
    REFUSED = "refused"  # it did not answer the order, or its answer was not accepted
    MISSED = "missed"  # asked, and neither answered nor refused in time
    ASKED = "asked"  # and the round is not committed yet


OF_EVENTS = {"asked": Turn.ASKED, "refused": Turn.REFUSED, "missed": Turn.MISSED, "lost": Turn.MISSED}


class Update(Frozen):
    """One update that the hub accepted. Sizes are in bytes."""

    round: int
    attempt: int
    sha256: str
    bytes_up: int
    bytes_down: int


class SiteReceipt(Frozen):
    """One site. Times are ISO 8601, empty where the ledger knows of none."""

    site: str
    joined: str
    approved: str
    withdrawn: str
    takes_part: bool
    images: str  # distinct training images with a label: a step such as 20-49, or the number
    labels: dict[str, str]  # by task, likewise
    arrays: int  # that cross in each round, and their values
    values: int
    software: str
    turns: dict[int, Turn]  # by round, where it was asked or gave
    updates: tuple[Update, ...]
    bytes_up: int
    bytes_down: int
    checkpoint_lines: int | None  # of its record of everything sent, as it last signed
    checkpoint_hash: str
    checkpoint_at: str
    checkpoint_signed: bool | None  # whether that signature is the site's

    def rounds(self, turn: Turn) -> tuple[int, ...]:
        """The rounds in which its part was this one."""
        return tuple(number for number, each in sorted(self.turns.items()) if each is turn)


class Receipts(Frozen):
    """Every site that the study's record knows of, by name."""

    rows: tuple[SiteReceipt, ...]


def read_receipts(ledger: Ledger, digest: str, *, exact: bool = False) -> Receipts:
    """Reads them from the ledger."""
    members, approved = ledger.members(digest), ledger.approvals(digest)
    given: dict[str, list[tuple[int, Contribution]]] = {}
    for number, updates in ledger.contributions(digest).items():
        for each in updates:
            given.setdefault(each.site, []).append((number, each))
    happened: dict[str, list[Noted]] = {}
    for each_noted in ledger.noted(study=digest):
        if each_noted.event.site:
            happened.setdefault(each_noted.event.site, []).append(each_noted)
    signed = {receipt.site: (receipt, signature, key) for receipt, signature, key in read_statements(ledger)}
    rows = []
    for site in sorted({*members, *approved, *given, *happened}):
        member, noted, own = members.get(site), happened.get(site, []), given.get(site, [])
        schema = Schema.from_json(member.schema) if member else Schema(())
        rows.append(
            SiteReceipt(
                site=site,
                joined=_last(noted, "joined"),
                approved=approved.get(site, ""),
                withdrawn=_last(noted, "withdrawn", "unapproved") if not (member and member.agrees) else "",
                takes_part=bool(member and member.agrees),
                images=told(member.samples, exact=exact) if member else "",
                labels={task: told(count, exact=exact) for task, count in member.counts.items()} if member else {},
                arrays=len(schema.arrays),
                values=schema.size,
                software=member.software if member else "",
                turns=_turns((each.event for each in noted), (number for number, _ in own)),
                updates=tuple(_update(number, each) for number, each in own),
                bytes_up=sum(each.bytes_up for _, each in own),
                bytes_down=sum(each.bytes_down for _, each in own),
                **_checkpoint(signed.get(site)),
            )
        )
    return Receipts(rows=tuple(rows))


def told(count: int, *, exact: bool) -> str:
    """A number of labels, images or cases as it may be told."""
    return str(count) if exact else bucket(count)


def _turns(events: Iterable[Event], given: Iterable[int]) -> dict[int, Turn]:
    """By round: the last word counts, and an accepted update before all words."""
    turns = {event.round: OF_EVENTS[event.what] for event in events if event.what in OF_EVENTS and event.round}
    return dict(sorted({**turns, **dict.fromkeys(given, Turn.GAVE)}.items()))


def _update(number: int, each: Contribution) -> Update:
    return Update(
        round=number,
        attempt=each.attempt,
        sha256=each.sha256,
        bytes_up=each.bytes_up,
        bytes_down=each.bytes_down,
    )


def _last(noted: Iterable[Noted], *what: str) -> str:
    """When one of these last happened."""
    return max((each.at for each in noted if each.event.what in what), default="")


def _checkpoint(signed: tuple[Receipt, bytes, str] | None) -> Mapping[str, object]:
    """The last of a site's signed statements."""
    if signed is None:
        empty = {"checkpoint_hash": "", "checkpoint_at": "", "checkpoint_signed": None}
        return {"checkpoint_lines": None} | empty
    receipt, signature, key = signed
    stated = Checkpoint(**receipt.model_dump(include={"site", "count", "hash", "at"}))
    return {
        "checkpoint_lines": receipt.count,
        "checkpoint_hash": receipt.hash,
        "checkpoint_at": receipt.at,
        "checkpoint_signed": is_signed(public_from_pem(key.encode()), stated.statement(), signature),
    }
