"""Letters for sites, and texts without names."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from polyward_server.report.naming import OTHER, Names, letters

NAMES = st.text("abcxyz0189-_.", min_size=1, max_size=8)


def test_letters_go_on_after_z() -> None:
    assert [letters(place) for place in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


@given(st.sets(NAMES, min_size=1, max_size=5), st.sets(NAMES, max_size=3), st.data())
def test_no_name_is_left_as_a_word(sites: set[str], others: set[str], data: st.DataObject) -> None:
    names = Names({site: f"site {letters(place)}" for place, site in enumerate(sorted(sites))}, frozenset(others))
    told = data.draw(st.lists(st.sampled_from(sorted(sites | others)), min_size=1))
    hidden = names.hide(f"away: {', '.join(told)}; quorum")
    expected = [names.labels.get(each, OTHER) for each in told]
    assert hidden == f"away: {', '.join(expected)}; quorum"


def test_words_that_hold_a_name_stay() -> None:
    names = Names({"a": "site A", "a-b": "site B"})
    assert names.hide("a-b said that a was late at a.") == "site B said that site A was late at site A."
    assert not re.search("site", names.hide("that was late"))
