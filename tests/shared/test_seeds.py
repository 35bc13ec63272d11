"""Seeds depend on names and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from polyward_shared.seeds import seed_for


@given(st.lists(st.lists(st.text(max_size=3) | st.integers(0, 5), max_size=3).map(tuple), unique_by=repr, max_size=8))
def test_different_names_different_seeds(names: list[tuple[str | int, ...]]) -> None:
    different = {tuple(str(part) for part in each) for each in names if "\x1f" not in "".join(map(str, each))}
    assert len({seed_for(0, *each) for each in different}) == len(different)
    assert all(0 <= seed_for(7, *each) < 2**63 for each in different)


def test_the_same_on_every_machine() -> None:
    assert seed_for(3, "branches.mask") == seed_for(3, "branches.mask") == 1982200169265527264
    assert seed_for(4, "branches.mask") != seed_for(3, "branches.mask")
