"""What sites tell of their work on the control plane: which studies they approve, and how each round went for them.

Who tells it is the certificate of the connection; what is told counts for that site alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from polyward_server import audit
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.tables import approvals, rounds, spans, studies


@dataclass(frozen=True, slots=True)
class Span:
    """One phase of a site's work on a round: when it began (Unix seconds by the hub's clock) and how long it took."""

    phase: str
    began: float
    seconds: float


def keep_approvals(ledger: Ledger, site: str, told: Collection[str]) -> None:
    """The site approves these studies now, and no others; of those that this hub does not know nothing is kept.

    What changed is an event.
    """
    with ledger.engine.begin() as db:
        audit.take_turn(db)  # so that no study is discarded, and no site put out, after the look
        given = set(db.execute(sa.select(approvals.c.study).where(approvals.c.site == site)).scalars())
        known = set(db.execute(sa.select(studies.c.digest).where(studies.c.digest.in_(told))).scalars())
        if given == known:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        for study in sorted(known - given):
            db.execute(approvals.insert().values(study=study, site=site, at=at))
            audit.append(db, Event(study, 0, site, "approved"))
        for study in sorted(given - known):
            db.execute(sa.delete(approvals).where((approvals.c.study == study) & (approvals.c.site == site)))
            audit.append(db, Event(study, 0, site, "unapproved"))


def keep_spans(ledger: Ledger, told: Mapping[tuple[str, int, str], Sequence[Span]]) -> None:
    """By study, round and site: how the work went, in place of what was known of that.

    Of a round that has not begun nothing is kept: no site fills the ledger with what nobody has asked for.
    """
    with ledger.engine.begin() as db:
        last = sa.select(rounds.c.study, sa.func.max(rounds.c.round)).group_by(rounds.c.study)
        begun = db.execute(last.where(rounds.c.study.in_({study for study, _, _ in told})))
        reached = {row[0]: row[1] for row in begun}
        for (study, number, site), phases in sorted(told.items()):  # in one order everywhere: nobody waits in a ring
            if number > reached.get(study, 0) + 1:
                continue
            own = (spans.c.study == study) & (spans.c.round == number) & (spans.c.site == site)
            db.execute(sa.delete(spans).where(own))
            key = {"study": study, "round": number, "site": site}
            if phases:
                db.execute(spans.insert(), [key | asdict(each) for each in phases])


def read_spans(
    ledger: Ledger, study: str, *, first: int = 0, last: int | None = None
) -> dict[int, dict[str, list[Span]]]:
    """By round and site, from round `first` to `last`: the phases in the order in which they began."""
    query = sa.select(spans).where(spans.c.study == study, spans.c.round >= first)
    if last is not None:
        query = query.where(spans.c.round <= last)
    found: dict[int, dict[str, list[Span]]] = {}
    with ledger.engine.connect() as db:
        for row in db.execute(query.order_by(spans.c.round, spans.c.site, spans.c.began, spans.c.seconds)):
            found.setdefault(row.round, {}).setdefault(row.site, []).append(Span(row.phase, row.began, row.seconds))
    return found
