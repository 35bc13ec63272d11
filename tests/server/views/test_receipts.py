"""What became of a site's part in each round."""

from __future__ import annotations

from pathlib import Path

from polyward_server.ledger import Ledger
from polyward_server.records import Event, Member, Round, State
from polyward_server.roster import Roster
from polyward_server.views.receipts import Turn, read_receipts
from polyward_shared import pki
from polyward_shared.schema import ArraySpec, Schema
from tests.support.toy_trainer import toy_study

SCHEMA = Schema((ArraySpec("encoder.w", (2, 3)), ArraySpec("encoder.b", (3,))))


def test_the_last_word_of_a_round_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    digest, roster = ledger.queue(toy_study()), Roster(ledger)
    roster.register("a", pki.public_key_pem(pki.new_key().public_key()))
    ledger.join(digest, Member("a", 30, {"mask": 12}, SCHEMA.to_json(), "polyward", True))
    ledger.set_state(digest, State.RUNNING)
    ledger.commit_round(digest, Round(0, "s" * 64, "e" * 64, 0.0))
    for number, *words in [
        (1, "asked", "refused"),
        (2, "asked", "missed"),
        (3, "refused", "asked"),
        (4, "asked", "lost"),
    ]:
        for word in words:
            ledger.note(Event(digest, number, "a", str(word)))
    ledger.note(Event(digest, 5, "b", "refused", "policy"))
    one, other = read_receipts(ledger, digest).rows
    ledger.close()
    assert one.turns == {1: Turn.REFUSED, 2: Turn.MISSED, 3: Turn.ASKED, 4: Turn.MISSED}
    assert one.rounds(Turn.MISSED) == (2, 4)
    assert (one.arrays, one.values, one.images, one.labels) == (2, 9, "20-49", {"mask": "10-19"})
    assert (one.approved, one.withdrawn, one.checkpoint_signed, one.updates) == ("", "", None, ())
    assert (other.site, other.turns, other.takes_part, other.labels) == ("b", {5: Turn.REFUSED}, False, {})
