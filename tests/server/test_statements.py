"""What sites have signed, in each kind of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from polyward_server.database import Where
from polyward_server.history import check_checkpoints
from polyward_server.ledger import Ledger
from polyward_server.statements import keep_statement, read_statements
from polyward_shared.checkpoints import Receipt
from polyward_shared.problems import Problem


@pytest.fixture
def ledger(where: Where) -> Iterator[Ledger]:
    made = Ledger(where)
    yield made
    made.close()


def receipt(count: int, digit: str) -> Receipt:
    return Receipt(site="north", count=count, hash=digit * 64, at="2026-01-01T00:00:00+00:00", rounds=2**40, head="")


def test_what_sites_signed_is_kept_beside_what_contradicts_it(ledger: Ledger) -> None:
    long = receipt(2**40, "a")
    assert keep_statement(ledger, long, b"\x01\xff", "key") == ""
    assert keep_statement(ledger, long, b"\x01\xff", "key") == ""
    assert "had another hash before" in keep_statement(ledger, receipt(2**40, "b"), b"", "key")
    assert f"had {2**40} lines before and has 3 now" in keep_statement(ledger, receipt(3, "c"), b"", "key")
    assert [each.count for each, _, _ in read_statements(ledger)] == [3, 2**40, 2**40]
    assert (long, b"\x01\xff", "key") in read_statements(ledger)
    with pytest.raises(Problem, match="stands beside what is no key"):
        check_checkpoints(ledger)
