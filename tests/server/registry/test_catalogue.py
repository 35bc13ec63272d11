"""What a person may call a state, and what is one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from polyward_server.registry.catalogue import Brought, Catalogue, Made, is_free
from polyward_server.registry.tags import tag
from polyward_shared.problems import Problem
from tests.server.registry.conftest import ENCODER_ALONE, FIRST, Shelf


def test_a_state_is_named_by_digest_beginning_encoder_or_tag(either: Shelf) -> None:
    first, second = either.branched
    tag(either.ledger, either.origin(second), "best", actor="ada")
    named = either.catalogue.named
    assert named(first) == named(first[:8]) == named(first[:12].upper()) == first
    assert named(either.encoders[1]) == named(either.encoders[1][:8]) == named("best") == second


def test_an_encoder_that_lies_in_two_states_names_the_state_that_is_it_alone(shelf: Shelf) -> None:
    assert shelf.encoders[0] == shelf.pilot[2], "the study that follows begins with it, beside branches"
    assert shelf.catalogue.named(shelf.encoders[0]) == shelf.pilot[2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("worst", "is the name of no encoder here"),
        ("abc1234", "at least 8 digits"),
        ("0" * 9, "begins no digest here"),
        ("\x1b[31m", r"'\\x1b"),
    ],
)
def test_a_name_that_means_nothing(shelf: Shelf, name: str, message: str) -> None:
    with pytest.raises(Problem, match=message):
        shelf.catalogue.named(name)


def test_a_beginning_of_two_digests_is_refused_with_both() -> None:
    one, other = "a" * 20 + "0" * 44, "a" * 20 + "1" * 44
    at = datetime(2026, 1, 1, tzinfo=UTC)
    catalogue = Catalogue((), {state: Brought(state, "x", {}, at) for state in (one, other)}, {}, {})
    with pytest.raises(Problem, match="begins the digests of 2 encoders: aaaaaaaaaaaaaaaa, aaaaaaaaaaaaaaaa"):
        catalogue.named("a" * 10)
    assert catalogue.named("a" * 20 + "0") == one


def test_where_a_state_was_first_is_its_origin(shelf: Shelf) -> None:
    origin = shelf.origin(shelf.pilot[1])
    assert isinstance(origin, Made)
    assert (origin.study_id, origin.round, origin.encoder) == ("pilot", 1, shelf.pilot[1])


def test_a_file_that_no_round_names_is_an_import_only_if_it_says_so(shelf: Shelf) -> None:
    left_behind = shelf.registry.add(ENCODER_ALONE, FIRST + 50, {"study": "x", "round": "9"})
    earlier = shelf.registry.add(ENCODER_ALONE, FIRST + 60, {"source": "old\n\x1b[31m.safetensors"})
    origins = shelf.catalogue.origins
    assert left_behind not in origins
    brought = origins[earlier]
    assert isinstance(brought, Brought)
    assert brought.source == "old\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m.safetensors"


def test_names_that_look_like_digests_are_not_given() -> None:
    is_free("beef")
    is_free("breast-1.0")
    for name in ("deadbeef", "DEADBEEF", "0" * 12):
        with pytest.raises(Problem, match="beginning of a digest"):
            is_free(name)
