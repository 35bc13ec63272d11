"""Commands to sites, in each kind of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from polyward_server.commands import order, order_state, ordered, orders
from polyward_server.database import Where
from polyward_server.ledger import Ledger


@pytest.fixture
def ledger(where: Where) -> Iterator[Ledger]:
    made = Ledger(where)
    yield made
    made.close()


def test_orders_are_numbered_and_answered_by_their_site_alone(ledger: Ledger) -> None:
    first, second = order(ledger, "north", "wake"), order(ledger, "south", "cancel", "study")
    assert [(each.id, each.site, each.what, each.study) for each in orders(ledger)] == [
        (first, "north", "wake", ""),
        (second, "south", "cancel", "study"),
    ]
    ordered(ledger, second, "north", "obeyed")
    assert order_state(ledger, second) == "waiting"
    ordered(ledger, second, "south", "obeyed")
    assert (order_state(ledger, second), [each.id for each in orders(ledger)]) == ("obeyed", [first])
