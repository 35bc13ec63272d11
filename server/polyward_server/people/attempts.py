"""How often somebody may try a password: counted for a name from one address, and for the address as a whole.

Never for a name alone: then anybody anywhere could shut a person out. Every wait has an end, and the wait for a name
holds only where the wrong passwords came from. What is written down of a tried name is its hash: people type passwords
into the wrong field.
"""

from __future__ import annotations

import hashlib
import ipaddress
import threading

import sqlalchemy as sa

from polyward_server.tables import failures

REMEMBERED_SECONDS = 24 * 3600.0
FIRST_WAIT = 30.0  # seconds after the last free attempt; each one more doubles it
FREE, LONGEST_WAIT = 5, 3600.0  # of a name from one address
FREE_OF_ADDRESS, LONGEST_WAIT_OF_ADDRESS = 20, 900.0  # a hospital may stand behind one address

_turn = threading.Lock()  # two that try at once are counted one after the other; one process serves the dashboard


def attempt(engine: sa.Engine, name: str, address: str, now: float) -> tuple[float, int]:
    """Counts an attempt before it is looked at: seconds to wait, and which one it is for the name from there.

    While there is a wait nothing is counted, so that it ends however often somebody asks meanwhile.
    """
    pair, place = _keys(name, address)
    with _turn, engine.begin() as db:
        db.execute(failures.delete().where((failures.c.at < now - REMEMBERED_SECONDS) | (failures.c.at > now + 60)))
        number, last = _failed(db, pair)
        of_address, last_of_address = _failed(db, place)
        wait = max(
            last + _wait(number, FREE, LONGEST_WAIT) - now,
            last_of_address + _wait(of_address, FREE_OF_ADDRESS, LONGEST_WAIT_OF_ADDRESS) - now,
        )
        if wait > 0:
            return wait, number
        db.execute(failures.insert(), [{"who": pair, "at": now}, {"who": place, "at": now}])
    return 0.0, number + 1


def succeeded(db: sa.Connection, name: str, address: str) -> None:
    """Forgets what failed for the name from there, and one attempt of the address: the one that has succeeded."""
    pair, place = _keys(name, address)
    db.execute(failures.delete().where(failures.c.who == pair))
    newest = sa.select(sa.func.max(failures.c.id)).where(failures.c.who == place).scalar_subquery()
    db.execute(failures.delete().where(failures.c.id == newest))


def _failed(db: sa.Connection, who: str) -> tuple[int, float]:
    """How many, and when the last one was."""
    row = db.execute(sa.select(sa.func.count(), sa.func.max(failures.c.at)).where(failures.c.who == who)).one()
    return row[0], row[1] or 0.0


def _wait(number: int, free: int, longest: float) -> float:
    return 0.0 if number < free else min(FIRST_WAIT * 2.0 ** min(number - free, 20), longest)


def _keys(name: str, address: str) -> tuple[str, str]:
    place = network(address)
    return f"{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:32]} {place}", place


def network(address: str) -> str:
    """An IPv4 address as it is; of an IPv6 address the half that its owner cannot choose at will."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if known.version == 4:
        return str(known)
    return str(known.ipv4_mapped or ipaddress.ip_network((int(known) >> 64 << 64, 64)))
