"""Few-sample personalisation: what crosses by each method, weights by samples, and the marks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyward_deploy.experiments import few_sample_bench
from polyward_deploy.experiments.digits import Digits
from polyward_deploy.experiments.federate import scratch
from polyward_deploy.experiments.few_sample import (
    CROSSES,
    METHODS,
    DigitSite,
    Method,
    Score,
    run,
    study_of,
    weighted,
    worst,
)
from polyward_deploy.experiments.glyphs import drawn_sites
from polyward_deploy.experiments.outcome import Figure
from polyward_deploy.experiments.page import page
from polyward_deploy.experiments.runs import Ran
from polyward_shared.messages import Stage

LAYER = {"encoder.hidden.weight", "encoder.hidden.bias"}


@pytest.fixture(scope="module")
def digits() -> list[Digits]:
    """Three sites with 20, 20 and 10 images."""
    sites = drawn_sites(20)[:3]
    last = sites[2]
    return [*sites[:2], Digits(last.train_x[:10], last.train_y[:10], last.test_x[:50], last.test_y[:50])]


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("fedavg", LAYER | {"branches.digit.head.weight", "branches.digit.head.bias"}),
        ("fedper", LAYER),
        ("fedrep", LAYER),
        ("lg-fedavg", {"encoder.head.weight", "encoder.head.bias"}),
    ],
)
def test_what_crosses_is_the_mean_by_samples_of_what_sites_trained(
    digits: list[Digits], method: Method, names: set[str], tmp_path: Path
) -> None:
    _, found = run(digits, method, 5, tmp_path, rounds=1)
    assert found is not None
    first, last = found.states
    assert set(first) == set(last) == names
    trained = [DigitSite(each, method, 5, number).train(first) for number, each in enumerate(digits)]
    for name in names:
        by_hand = sum(share * site[name] for share, site in zip((0.4, 0.4, 0.2), trained, strict=True))
        np.testing.assert_allclose(last[name], by_hand, rtol=1e-4, atol=1e-5)


def test_one_site_in_a_federation_is_a_site_alone(digits: list[Digits], tmp_path: Path) -> None:
    alone, nothing = run(digits[:1], "local", 3, tmp_path / "local", rounds=2)
    federated, _ = run(digits[:1], "fedavg", 3, tmp_path / "fedavg", rounds=2)
    final = [score for score in federated if score.stage is Stage.FINAL]
    assert nothing is None
    assert [score.value for score in alone] == pytest.approx([score.value for score in final])


def test_fedrep_trains_the_head_on_the_received_layer_first(digits: list[Digits]) -> None:
    """Its head is that of an epoch in which the layer stood still, whatever the layer did afterwards."""
    site = DigitSite(digits[0], "fedrep", 5, 0)
    first = site.first()
    after = site.train(first)
    assert (after["encoder.hidden.weight"] != first["encoder.hidden.weight"]).any()
    together = DigitSite(digits[0], "fedper", 5, 0).train(first)
    assert (after["encoder.hidden.weight"] != together["encoder.hidden.weight"]).any()


def test_measuring_changes_nothing(digits: list[Digits]) -> None:
    site = DigitSite(digits[0], "fedper", 5, 0)
    other = {name: values + 1 for name, values in site.first().items()}
    before = site.measure(site.first(), Stage.FINAL)
    assert site.measure(other, Stage.FINAL) != before
    assert site.measure(site.first(), Stage.FINAL) == before


def test_accuracy_is_weighted_by_test_cases() -> None:
    scores = [Score("a", Stage.FINAL, 1.0, 30), Score("b", Stage.FINAL, 0.5, 10), Score("b", Stage.TRAINED, 0.0, 10)]
    assert weighted(scores) == pytest.approx(0.875)
    assert worst(scores) == 0.5
    assert weighted(scores, Stage.TRAINED) == 0.0


def test_the_studies_differ_in_what_they_share() -> None:
    studies = {method: study_of(method, 0, samples=50, sites=20) for method in METHODS if CROSSES[method]}
    assert {method for method, study in studies.items() if study.sharing.branches == "task"} == {"fedavg"}
    assert {(s.aggregation.weighting, s.aggregation.clip, s.rounds) for s in studies.values()} == {("samples", 0.0, 60)}
    assert len({study.digest() for study in studies.values()}) == len(studies)


def found_by(accuracies: dict[Method, float], samples: int) -> list[Ran]:
    rans = []
    for method, value in accuracies.items():
        shared = {"setting": str(samples), "method": method, "seed": 0}
        figures = [Figure(name=name, value=value, **shared) for name in ("accuracy_final", "worst_final")]  # type: ignore[arg-type]
        figures.append(Figure(name="platform_seconds", value=0.005, **shared))  # type: ignore[arg-type]
        rans.append(Ran(settings={}, seconds=1.0, figures=tuple(figures)))
    return rans


EXPECTED_AT_50: dict[Method, float] = {
    "local": 0.9236, "fedavg": 0.8458, "fedper": 0.9363, "fedrep": 0.9355, "lg-fedavg": 0.9230,
}  # fmt: skip


def test_the_expected_figures_pass_and_a_smaller_gain_does_not() -> None:
    outcome = few_sample_bench.outcome((0,), (50,), found_by(EXPECTED_AT_50, 50), generated=False)
    assert outcome.passed
    missed = few_sample_bench.outcome((0,), (50,), found_by({**EXPECTED_AT_50, "fedper": 0.93}, 50), generated=False)
    assert [mark.met for mark in missed.marks] == [False, True, True]
    text = page(outcome, few_sample_bench.plots(outcome))
    assert "2102.07078" in text
    assert "PFLlib" in text
    assert "0.9363" in text


def test_generated_digits_have_an_order_and_no_expected_figures() -> None:
    outcome = few_sample_bench.outcome((0,), (50,), found_by(EXPECTED_AT_50, 50), generated=True)
    assert outcome.passed
    assert "Generated data" in page(outcome, few_sample_bench.plots(outcome))
    assert all("expected" not in heading for sheet in outcome.sheets for heading in sheet.head)
    level = few_sample_bench.outcome((0,), (50,), found_by(dict.fromkeys(METHODS, 0.9), 50), generated=True)
    assert not level.passed


@pytest.mark.whole
@pytest.mark.slow
def test_generated_digits_show_the_order() -> None:
    digits = drawn_sites(50)
    compared: tuple[Method, ...] = ("local", "fedavg", "fedrep")
    with scratch() as folder:
        reached = {method: weighted(run(digits, method, 0, folder / method)[0]) for method in compared}
    assert reached["fedrep"] > reached["local"] > reached["fedavg"] + few_sample_bench.FAR_BELOW
