"""What was last heard of every site on the control plane, in the ledger's database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from polyward_server.ledger import Ledger
from polyward_server.tables import contacts


@dataclass(frozen=True, slots=True)
class Contact:
    """What was last heard of a site on the control plane."""

    site: str
    connected: bool
    at: float
    progressed: float | None = None
    software: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)


def keep_contacts(ledger: Ledger, *news: Contact) -> None:
    """Replaces what was known of these sites."""
    with ledger.engine.begin() as db:
        for contact in sorted(news, key=lambda each: each.site):  # in one order everywhere: nobody waits in a ring
            values = {
                "connected": contact.connected,
                "at": contact.at,
                "progressed": contact.progressed,
                "software": contact.software,
                "status": json.dumps(contact.status),
            }
            if not db.execute(contacts.update().where(contacts.c.site == contact.site).values(**values)).rowcount:
                db.execute(contacts.insert().values(site=contact.site, **values))


def read_contacts(ledger: Ledger) -> dict[str, Contact]:
    """By site."""
    with ledger.engine.connect() as db:
        return {
            row.site: Contact(row.site, row.connected, row.at, row.progressed, row.software, json.loads(row.status))
            for row in db.execute(sa.select(contacts).order_by(contacts.c.site))
        }


def nobody_is_here(ledger: Ledger) -> None:
    """Nobody is connected to a control plane that has just started."""
    with ledger.engine.begin() as db:
        db.execute(contacts.update().values(connected=False))


def pulse_of(db: sa.Connection) -> tuple[object, ...]:
    """Another value whenever a site was heard, came or went; also after a clock was set back."""
    told = sa.select(sa.func.sum(contacts.c.at), sa.func.sum(contacts.c.connected.cast(sa.Integer)))
    return tuple(db.execute(told).one())
