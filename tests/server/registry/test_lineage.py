"""Where a state comes from, by hand."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from polyward_server.tables import studies
from tests.server.registry.conftest import PILOT, Shelf
from tests.support.toy_trainer import toy_study


def test_sites_with_weights_and_shares(either: Shelf) -> None:
    told = either.lineage(either.pilot[1])
    assert (told.study, told.study_id, told.round, told.rule) == (PILOT.digest(), "pilot", 1, "mean")
    assert told.parents == (either.pilot[0],)
    assert [(s.site, s.weight, s.part, s.share) for s in told.shares] == [
        ("north", 30, 0.75, 0.7),
        ("south", 10, 0.25, 0.3),
    ]


def test_figures_are_those_of_this_very_encoder(shelf: Shelf) -> None:
    """Of round 1: its own, and what was received in round 2; what sites trained alone is left out."""
    found = [(f.round, f.site, f.split, f.stage, f.value) for f in shelf.lineage(shelf.pilot[1]).figures]
    assert found == [(1, "north", "test", "trained", 0.5), (2, "north", "test", "received", 0.625)]
    last = shelf.lineage(shelf.pilot[2]).figures
    assert {(f.site, f.split, f.value, f.primary) for f in last} == {
        ("north", "test", 0.75, True),
        ("south", "test", 0.25, True),
        ("north", "val", 0.8, False),
    }


def test_ancestry_goes_through_studies_back_to_the_seed(either: Shelf) -> None:
    told = either.lineage(either.branched[1])
    assert told.parents == (either.branched[0],)
    assert [(d.kind, d.name, d.round, d.sites) for d in told.ancestry] == [
        ("study", "follow-up", 1, 0),
        ("study", "pilot", 2, 2),
        ("seed", "5", 0, 0),
    ]
    assert either.lineage(either.branched[0]).parents == (either.pilot[2],)
    assert either.lineage(either.pilot[0]).parents == ()


def test_a_start_of_which_nothing_is_known_ends_the_ancestry(shelf: Shelf) -> None:
    lost = shelf.following.model_copy(
        update={"encoder": shelf.following.encoder.model_copy(update={"start": "f" * 64})}
    )
    _rewrite(shelf, lost.canonical(), shelf.following.digest())
    assert [(d.kind, d.digest[:3]) for d in shelf.lineage(shelf.branched[1]).ancestry][1:] == [("unknown", "fff")]


def test_a_ledger_that_leads_in_a_circle_ends(shelf: Shelf) -> None:
    start = {"filters": 4, "blocks": [1, 1], "start": shelf.branched[1]}
    _rewrite(shelf, toy_study(id="pilot", encoder=start).canonical(), PILOT.digest())
    ancestry = shelf.lineage(shelf.branched[1]).ancestry
    assert [d.name for d in ancestry] == ["follow-up", "pilot"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_sites_are_counted_up_to_the_round(shelf: Shelf, number: int) -> None:
    assert shelf.lineage(shelf.pilot[number]).ancestry[0].sites == [0, 2, 2][number]


def _rewrite(shelf: Shelf, text: str, study: str) -> None:
    with shelf.ledger.engine.begin() as db:
        db.execute(sa.update(studies).where(studies.c.digest == study).values(text=text))
