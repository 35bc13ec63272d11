"""Tags: one state each, moved only when asked, every change an event of a person."""

from __future__ import annotations

import pytest

from polyward_server.registry.tags import tag, untag
from polyward_shared.problems import Problem
from tests.server.registry.conftest import PILOT, Shelf


def told(shelf: Shelf) -> list[tuple[str, str, int, str, str]]:
    events = (noted.event for noted in shelf.ledger.noted())
    return [(e.what, e.study, e.round, e.detail, e.actor) for e in events if e.what in {"tagged", "untagged"}]


def test_a_tag_is_given_moved_and_taken_away(either: Shelf) -> None:
    _, one, two = either.pilot
    assert tag(either.ledger, either.origin(one), "best", actor="ada") == ""
    with pytest.raises(Problem, match=f"tag of {one[:16]} already"):
        tag(either.ledger, either.origin(two), "best", actor="ada")
    assert either.catalogue.tags == {"best": one}
    assert tag(either.ledger, either.origin(two), "best", actor="eve", move=True) == one
    assert (either.catalogue.tags_of(one), either.catalogue.tags_of(two)) == ((), ("best",))
    assert untag(either.ledger, "best", actor="ada") == two
    assert either.catalogue.tags == {}
    assert told(either) == [
        ("tagged", PILOT.digest(), 1, f"best: {one}", "ada"),
        ("tagged", PILOT.digest(), 2, f"best: {two}, before {one}", "eve"),
        ("untagged", "", 0, f"best: {two}", "ada"),
    ]


def test_the_same_again_is_no_event(shelf: Shelf) -> None:
    for _ in range(2):
        tag(shelf.ledger, shelf.origin(shelf.pilot[0]), "best", actor="ada")
    assert len(told(shelf)) == 1


@pytest.mark.parametrize("name", ["", "a b", "[red]", "../x", "x" * 64, "line\nbreak", "cafebabe"])
def test_what_is_no_tag(shelf: Shelf, name: str) -> None:
    with pytest.raises(Problem):
        tag(shelf.ledger, shelf.origin(shelf.pilot[0]), name, actor="ada")
    assert shelf.catalogue.tags == {}


def test_a_tag_that_is_none_cannot_be_taken_away(shelf: Shelf) -> None:
    with pytest.raises(Problem, match="is no tag here"):
        untag(shelf.ledger, "best", actor="ada")
