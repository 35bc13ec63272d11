"""Commands of the coordinator to sites: each waits in the ledger's database until its site has heard it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from polyward_server.ledger import Ledger
from polyward_server.tables import commands


@dataclass(frozen=True, slots=True)
class Waiting:
    """A command of the coordinator's that its site has not heard yet."""

    id: int
    site: str
    what: str
    study: str


def order(ledger: Ledger, site: str, what: str, study: str = "") -> int:
    """A command for a site; it is sent when the site is connected. Returns its number."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    with ledger.engine.begin() as db:
        made = db.execute(commands.insert().values(site=site, what=what, study=study, at=at, state="waiting"))
        number: int = made.inserted_primary_key[0]  # type: ignore[index]  # there is always one
        return number


def orders(ledger: Ledger) -> list[Waiting]:
    """Commands that nobody has heard yet, oldest first."""
    with ledger.engine.connect() as db:
        rows = db.execute(sa.select(commands).where(commands.c.state == "waiting").order_by(commands.c.id))
        return [Waiting(row.id, row.site, row.what, row.study) for row in rows]


def ordered(ledger: Ledger, number: int, site: str, state: str) -> None:
    """What became of a site's command; another site's word on it counts for nothing."""
    with ledger.engine.begin() as db:
        own = (commands.c.id == number) & (commands.c.site == site)
        db.execute(commands.update().where(own).values(state=state))


def order_state(ledger: Ledger, number: int) -> str:
    """What became of a command: waiting, sent, obeyed or declined."""
    with ledger.engine.connect() as db:
        return str(db.execute(sa.select(commands.c.state).where(commands.c.id == number)).scalar_one())
