"""Problems are for people, refusals are one of the agreed words."""

from __future__ import annotations

import re

from polyward_shared.problems import Code, Problem, Refused


def test_a_problem_says_where_what_and_what_to_do() -> None:
    text = str(Problem("site.toml", "name: found 3", expected="a text", remedy="mend it"))
    assert text == "site.toml: name: found 3; expected a text\n  what to do: mend it"
    assert str(Problem("site.toml", "is empty")) == "site.toml: is empty"


def test_a_refusal_keeps_code_and_detail_apart() -> None:
    refused = Refused(Code.DATA, "patient 17 has no image")
    assert (refused.code, refused.detail) == (Code.DATA, "patient 17 has no image")


def test_codes_are_words_without_room_for_anything_else() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in Code)
