"""The registry as people see it."""

from __future__ import annotations

import pytest

from polyward_server.registry.tags import tag
from polyward_server.views.encoders import ComparisonPage, read_comparison, read_encoder_page, read_encoders
from polyward_shared.problems import Problem
from tests.server.registry.conftest import PILOT, Shelf, shelf

__all__ = ["shelf"]


def test_every_state_once_the_newest_first(shelf: Shelf) -> None:
    tag(shelf.ledger, shelf.origin(shelf.pilot[1]), "best", actor="ada")
    rows = read_encoders(shelf.ledger, shelf.registry).rows
    assert [row.state for row in rows] == [*reversed(shelf.branched), *reversed(shelf.pilot)]
    assert [row.newest for row in rows] == [True, False, True, False, False]
    one = rows[3]
    assert (one.study, one.study_id, one.round, one.tags, one.releases) == (PILOT.digest(), "pilot", 1, ("best",), ())
    assert one.size == shelf.registry.path(one.state).stat().st_size


def test_a_state_whose_file_was_removed_is_still_told_of(shelf: Shelf) -> None:
    shelf.registry.path(shelf.pilot[1]).unlink()
    page = read_encoder_page(shelf.ledger, shelf.registry, shelf.pilot[1][:10])
    assert (page.row.size, page.arrays, page.lineage.round) == (None, 0, 1)
    with pytest.raises(Problem, match="no such file"):
        read_comparison(shelf.ledger, shelf.registry, shelf.pilot[0], shelf.pilot[1])


def test_one_state(shelf: Shelf) -> None:
    page = read_encoder_page(shelf.ledger, shelf.registry, shelf.encoders[1])
    assert (page.row.state, page.row.encoder) == (shelf.branched[1], shelf.encoders[1])
    assert (page.groups, page.arrays, page.values) == (("encoder", "branches.mask"), 3, 11)
    assert page.lineage.study_id == "follow-up"


def test_encoders_are_compared_without_their_branches(shelf: Shelf) -> None:
    page = read_comparison(shelf.ledger, shelf.registry, shelf.pilot[2], shelf.branched[1])
    assert page.comparison.alike
    assert page.comparison.whole.greatest == 1.0
    assert page.comparison.whole.values == 9
    assert ComparisonPage.model_validate_json(page.model_dump_json()) == page
