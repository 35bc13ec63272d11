"""Properties of splits: whole patients, fractions kept in the whole and in each stratum, the seed alone decides."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_client.trainer.intake.splits import parse_fractions, split_patients, stratum_of
from polyward_client.trainer.manifest import SPLITS
from polyward_shared.problems import Problem

STRATA = st.dictionaries(st.text("abcdef0123", min_size=1, max_size=6), st.sampled_from("xyz"), max_size=200)
FRACTIONS = st.tuples(*[st.integers(0, 9)] * 3).filter(lambda f: f[0] > 0).map(lambda f: tuple(x / sum(f) for x in f))


@given(STRATA, FRACTIONS, st.integers(0, 1000))
def test_fractions_hold_to_about_a_patient(
    strata: dict[str, str], fractions: tuple[float, float, float], seed: int
) -> None:
    splits = split_patients(strata, fractions, seed)
    assert set(splits) == set(strata)
    counts = Counter(splits.values())
    for name, share in zip(SPLITS, fractions, strict=True):
        assert abs(counts[name] - share * len(strata)) < 1.5
        assert share or not counts[name]
        for stratum in "xyz":
            own = [splits[patient] for patient, value in strata.items() if value == stratum]
            assert abs(own.count(name) - share * len(own)) < 2.5


@given(STRATA, st.integers(0, 1000))
def test_the_order_of_patients_does_not_matter(strata: dict[str, str], seed: int) -> None:
    back = dict(reversed(strata.items()))
    assert split_patients(strata, (0.7, 0.1, 0.2), seed) == split_patients(back, (0.7, 0.1, 0.2), seed)


def test_another_seed_gives_another_split() -> None:
    strata = {f"p{n}": "" for n in range(40)}
    assert split_patients(strata, (0.5, 0.2, 0.3), 0) != split_patients(strata, (0.5, 0.2, 0.3), 1)
    assert Counter(split_patients(strata, (0.5, 0.2, 0.3), 0).values()) == {"train": 20, "val": 8, "test": 12}


def test_a_patients_stratum_is_the_label_that_it_has_most() -> None:
    assert stratum_of(["1", "", "0", "1"]) == "1"
    assert stratum_of(["1", "0"]) == "0"
    assert stratum_of(["", ""]) == ""


def test_fractions_as_people_write_them() -> None:
    assert parse_fractions("70/10/20") == pytest.approx((0.7, 0.1, 0.2))
    for text in ("0.7", "0,1,1", "a,b,c", "1,-1,1", "nan,1,1", "inf,1,1"):
        with pytest.raises(Problem, match="three numbers"):
            parse_fractions(text)
