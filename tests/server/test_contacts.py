"""What was last heard of sites, in each kind of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from polyward_server.contacts import Contact, keep_contacts, nobody_is_here, pulse_of, read_contacts
from polyward_server.database import Where
from polyward_server.ledger import Ledger


@pytest.fixture
def ledger(where: Where) -> Iterator[Ledger]:
    made = Ledger(where)
    yield made
    made.close()


def test_the_last_word_of_a_site_is_what_is_known(ledger: Ledger) -> None:
    keep_contacts(ledger, Contact("north", True, 1.5))
    later = Contact("north", True, 2.25, 2.125, "v1", {"work": {"done": 3}})
    keep_contacts(ledger, later)
    assert read_contacts(ledger) == {"north": later}
    nobody_is_here(ledger)
    assert not read_contacts(ledger)["north"].connected


def test_the_pulse_is_another_for_every_word_although_a_clock_was_set_back(ledger: Ledger) -> None:
    def pulse() -> tuple[object, ...]:
        with ledger.engine.connect() as db:
            return pulse_of(db)

    keep_contacts(ledger, Contact("north", True, 1.8e9), Contact("away", True, 1.8e9 + 3600))
    seen = [pulse()]
    keep_contacts(ledger, Contact("north", True, 1.8e9 - 60))
    seen.append(pulse())
    keep_contacts(ledger, Contact("north", False, 1.8e9 - 60))
    seen.append(pulse())
    assert len(set(seen)) == 3
    assert pulse() == seen[-1]
