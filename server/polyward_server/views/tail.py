"""The last things that happened in a study, and who did them."""

from __future__ import annotations

from datetime import datetime

from polyward_server.views.picture import Picture, moment
from polyward_shared.reading import Frozen

SHOWN = 20


class TailRow(Frozen):
    """One event of the audited record."""

    number: int
    at: datetime
    round: int
    site: str  # the authenticated one, or empty for the hub
    what: str
    detail: str
    actor: str  # the person who did it, or empty
    hash: str


class Tail(Frozen):
    """Newest first."""

    rows: tuple[TailRow, ...]


def read_tail(picture: Picture) -> Tail:
    """Reads it from the study's picture."""
    return Tail(
        rows=tuple(
            TailRow(
                number=noted.number,
                at=moment(noted.at),
                round=noted.event.round,
                site=noted.event.site,
                what=noted.event.what,
                detail=noted.event.detail,
                actor=noted.event.actor,
                hash=noted.hash,
            )
            for noted in reversed(picture.events[-SHOWN:])
        )
    )
