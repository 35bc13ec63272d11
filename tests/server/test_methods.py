"""The hub's rules through real gates and the real round loop: answers by hand, and bytes that survive a killed hub."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyward_server.aggregate.conflict import cagrad
from polyward_server.attendance import chosen
from polyward_server.exchange import Presence
from polyward_server.records import Event, Member
from polyward_shared.messages import Kind, Report
from polyward_shared.schema import Flat, Schema
from polyward_shared.study import Study
from tests.support.toy_federation import Toy, ToyFederation
from tests.support.toy_trainer import ENCODER_ARRAYS, first_state, toy_study

START = first_state(Schema(ENCODER_ARRAYS)).astype(np.float64)
FIVE = {
    "a": Toy(1.0, {"mask": 30}),
    "b": Toy(1.2, {"mask": 10, "grade": 8}),
    "c": Toy(1.4, {"grade": 20}),
    "d": Toy(1.6, {"grade": 20}),
    "e": Toy(-3.0, {"mask": 20}),
}
THREE = {name: FIVE[name] for name in "abc"}


class Killed(Exception):
    """Stands for the end of the hub's process."""


def study_of(rule: dict[str, Any], **changes: Any) -> Study:
    weighting = {} if rule.get("rule", "mean") in {"mean", "precision", "clusters"} else {"weighting": "uniform"}
    return toy_study(aggregation={"clip": 0.0, **weighting, **rule}, **changes)


def ended(folder: Path, study: Study, toys: dict[str, Toy]) -> Flat:
    with ToyFederation(folder, study, toys) as toy:
        assert toy.run()
        return toy.group("encoder")


def halved(target: float, rounds: int = 3) -> np.ndarray:
    values = START.copy()
    for _ in range(rounds):
        values += 0.5 * (target - values)
    return values


def test_the_median_and_the_trimmed_mean_pass_over_the_wild_site(tmp_path: Path) -> None:
    quorum = {"participation": {"quorum": 3}}
    np.testing.assert_allclose(
        ended(tmp_path / "1", study_of({"rule": "median"}, **quorum), FIVE), halved(1.2), atol=1e-5
    )
    rule = {"rule": "trimmed_mean", "faulty": 1}
    middle = (1.0 + 1.2 + 1.4) / 3
    np.testing.assert_allclose(ended(tmp_path / "2", study_of(rule, **quorum), FIVE), halved(middle), atol=1e-5)


def test_krum_takes_the_update_of_one_site_in_the_crowd(tmp_path: Path) -> None:
    found = ended(tmp_path, study_of({"rule": "krum"}, participation={"quorum": 5}, rounds=1), FIVE)
    assert any(np.allclose(found, halved(target, 1), atol=1e-5) for target in (1.2, 1.4))


def test_cagrad_is_the_papers_step_on_the_sites_changes(tmp_path: Path) -> None:
    toys = {"a": Toy(1.0, {"mask": 30}), "b": Toy(-2.0, {"mask": 10})}
    found = ended(tmp_path, study_of({"rule": "cagrad"}, rounds=1), toys)
    deltas = np.stack([0.5 * (target - START) for target in (1.0, -2.0)])
    np.testing.assert_allclose(found, START + cagrad(deltas @ deltas.T, 0.4) @ deltas, atol=1e-5)


def test_momentum_remembers_across_rounds_and_across_a_killed_hub(tmp_path: Path) -> None:
    study = study_of({"optimiser": "momentum", "weighting": "uniform", "rate": 0.5})
    values, velocity = START.copy(), np.zeros_like(START)
    for _ in range(3):
        velocity = 0.9 * velocity + 0.5 * (1.2 - values)
        values = values + 0.5 * velocity
    np.testing.assert_allclose(ended(tmp_path / "whole", study, THREE), values, atol=1e-4)

    def stop(event: Event) -> None:
        if event.what == "committed" and event.round == 2:
            toy.stopped = True

    with ToyFederation(tmp_path / "cut", study, THREE, heard=stop) as toy:
        assert not toy.run()
    assert ended(tmp_path / "cut", study, THREE).tobytes() == ended(tmp_path / "whole", study, THREE).tobytes()


@pytest.mark.parametrize("kind", ["adam", "yogi", "adagrad"])
def test_adaptive_optimisers_go_the_right_way_and_repeat(tmp_path: Path, kind: str) -> None:
    study = study_of({"optimiser": kind, "rate": 0.1})
    first = ended(tmp_path / "1", study, THREE)
    assert np.abs(first - 1.2).mean() < np.abs(START - 1.2).mean()
    assert ended(tmp_path / "2", study, THREE).tobytes() == first.tobytes()


def test_precision_follows_the_site_that_is_sure_value_by_value(tmp_path: Path) -> None:
    study = study_of({"rule": "precision", "weighting": "uniform"}, rounds=1)
    toys = {"a": Toy(1.0, {"mask": 30}), "b": Toy(3.0, {"mask": 30})}
    with ToyFederation(tmp_path, study, toys) as toy:
        toy.trainers["b"].sure = 2.6  # and 0.2 of the other six values
        assert toy.run()
        found = toy.group("encoder")
    targets = np.where(np.arange(9) < 3, (1 * 1.0 + 2.6 * 3.0) / 3.6, (1 * 1.0 + 0.2 * 3.0) / 1.2)
    np.testing.assert_allclose(found, START + 0.5 * (targets - START), atol=1e-3)


def test_clusters_give_each_camp_an_encoder_and_the_newcomer_the_larger_ones(tmp_path: Path) -> None:
    toys = {
        "a": Toy(1.0, {"mask": 10}),
        "b": Toy(1.2, {"mask": 10}),
        "c": Toy(1.4, {"mask": 10}),
        "x": Toy(-4.0, {"mask": 10}),
        "y": Toy(-4.2, {"mask": 10}),
    }

    def arrive(event: Event) -> None:
        if event.what == "committed" and event.round == 2:
            toy.here["b"] = Presence(online=True, since=time.time())

    study = study_of({"rule": "clusters"}, participation={"quorum": 3, "rejoin_seconds": 0.0})
    with ToyFederation(tmp_path, study, toys, heard=arrive) as toy:
        toy.here["b"] = Presence(online=False, since=0.0)
        assert toy.run()
        [_, _, second, third] = toy.ledger.rounds(toy.digest)
        assert second.variants["a"] == second.variants["c"] != second.variants["x"] == second.variants["y"]
        assert third.variants["b"] == third.variants["a"]
        np.testing.assert_allclose(toy.group(second.variants["a"]["encoder"], 2), halved(1.2, 2), atol=1e-4)
        np.testing.assert_allclose(toy.group(second.variants["x"]["encoder"], 2), halved(-4.1, 2), atol=1e-4)
        assert toy.trainers["b"].trained[0][1] == toy.trainers["a"].trained[2][1]
        assert toy.trainers["x"].trained[2][1] != toy.trainers["a"].trained[2][1]


def test_fedhca2_leaves_every_site_an_encoder_of_its_own(tmp_path: Path) -> None:
    toys = {"a": Toy(1.0, {"mask": 30}), "b": Toy(-2.0, {"grade": 10})}
    study = study_of({"rule": "fedhca2"}, participation={"quorum": 2})
    with ToyFederation(tmp_path / "whole", study, toys) as toy:
        assert toy.run()
        first = toy.ledger.rounds(toy.digest)[1]
        deltas = {"a": 0.5 * (1.0 - START), "b": 0.5 * (-2.0 - START)}
        both = np.stack([deltas["a"], deltas["b"]])
        step = cagrad(both @ both.T, 0.4) @ both
        for site, delta in deltas.items():
            own = toy.group(first.variants[site]["encoder"], 1)
            np.testing.assert_allclose(own, START + delta + 0.1 * step, atol=1e-4)
        states = toy.states()

    def stop(event: Event) -> None:
        if event.what == "committed" and event.round == 1:
            cut.stopped = True

    with ToyFederation(tmp_path / "cut", study, toys, heard=stop) as cut:
        assert not cut.run()
    with ToyFederation(tmp_path / "cut", study, toys) as cut:
        assert cut.run()
        assert cut.states() == states


def test_branches_are_shared_among_sites_with_the_very_same_tasks(tmp_path: Path) -> None:
    with ToyFederation(tmp_path, study_of({}, sharing={"branches": "taskset"}, rounds=1), FIVE) as toy:
        assert toy.run()
        variants = toy.ledger.rounds(toy.digest)[1].variants
        assert variants["a"] == variants["e"]
        assert variants["b"]["branches.mask"] != variants["a"]["branches.mask"]
        mask = first_state(Schema(()).of({"branches.mask.w": np.zeros(2, np.float32)}))
        of_a = mask + 0.5 * ((30 * 1.0 + 20 * -3.0) / 50 - mask)
        np.testing.assert_allclose(toy.group(variants["a"]["branches.mask"]), of_a, atol=1e-5)
        np.testing.assert_allclose(toy.group(variants["b"]["branches.mask"]), mask + 0.5 * (1.2 - mask), atol=1e-5)


def test_a_sample_of_the_sites_is_drawn_from_the_seed(tmp_path: Path) -> None:
    study = study_of({}, participation={"quorum": 2, "sample": 0.4}, rounds=6)
    credited = []
    for folder in ("1", "2"):
        with ToyFederation(tmp_path / folder, study, FIVE) as toy:
            assert toy.run()
            credited.append(toy.credited())
    assert credited[0] == credited[1]
    assert {len(sites) for sites in credited[0].values()} == {2}
    assert len({tuple(sites) for sites in credited[0].values()}) > 1


def test_a_sample_holds_owners_of_the_tasks_that_need_some(tmp_path: Path) -> None:
    rule = {"quorum": 1, "sample": 0.2, "task_quorum": {"mask": 1, "grade": 1}}
    with ToyFederation(tmp_path, study_of({}, participation=rule, rounds=5), FIVE) as toy:
        assert toy.run()
        for sites in toy.credited().values():
            assert {task for site in sites for task in FIVE[site].counts} == {"mask", "grade"}


def test_a_loud_site_is_shortened_from_the_first_round_on_and_named(tmp_path: Path) -> None:
    loud = {**FIVE, "e": Toy(100.0, {"mask": 20})}
    study = toy_study(aggregation={"weighting": "uniform", "clip": 3.0})
    with ToyFederation(tmp_path, study, loud) as toy:
        assert toy.run()
        assert {site for _, site, _ in toy.seen("shortened")} == {"e"}
        assert {site for _, site, why in toy.seen("outlier") if "length" in why} == {"e"}
        assert [number for number, _, _ in toy.seen("shortened")] == [1, 2, 3]
        given = {each.site: each for each in toy.ledger.contributions(toy.digest)[1]}
        lengths = sorted(each.norm for each in given.values())
        assert given["e"].scale == pytest.approx(3 * lengths[2] / lengths[4], rel=1e-6)
        assert toy.group("encoder", 1).max() < 2


def test_what_the_updates_say_together_is_in_the_ledger(tmp_path: Path) -> None:
    toys = {"a": Toy(1.0, {"mask": 30}), "b": Toy(-2.0, {"mask": 10})}
    with ToyFederation(tmp_path, study_of({"weighting": "uniform"}, rounds=1), toys) as toy:
        assert toy.run()
        deltas = np.stack([0.5 * (1.0 - START), 0.5 * (-2.0 - START)])
        lengths = np.linalg.norm(deltas, axis=1)
        mean = deltas.mean(0)
        [pair] = toy.ledger.pairs(toy.digest)[1]
        assert (pair.site, pair.other) == ("a", "b")
        assert pair.cosine == pytest.approx(deltas[0] @ deltas[1] / lengths.prod(), abs=1e-5)
        assert pair.magnitude == pytest.approx(2 * lengths.prod() / (lengths**2).sum(), abs=1e-5)
        signals = toy.ledger.rounds(toy.digest)[1].signals
        assert signals.step == pytest.approx(np.linalg.norm(mean), rel=1e-4)
        assert signals.drift == pytest.approx(np.linalg.norm(mean), rel=1e-4)
        assert signals.cancellation == pytest.approx(1 - np.linalg.norm(mean) / lengths.mean(), rel=1e-4)
        assert signals.effective == pytest.approx(2.0, rel=1e-4)
        given = toy.ledger.contributions(toy.digest)[1]
        assert [each.share for each in given] == pytest.approx(deltas @ mean / 2 / (mean @ mean), rel=1e-3)


def test_a_latecomer_may_bring_a_task_that_nobody_had(tmp_path: Path) -> None:
    toys = {"a": Toy(1.0, {"mask": 30}), "b": Toy(1.0, {"mask": 10}), "c": Toy(4.0, {"grade": 20})}

    def arrive(event: Event) -> None:
        if event.what == "committed" and event.round == 1:
            toy.here["c"] = Presence(online=True, since=time.time())

    study = study_of({}, sharing={"branches": "task"}, participation={"quorum": 2, "rejoin_seconds": 0.0})
    with ToyFederation(tmp_path, study, toys, heard=arrive) as toy:
        toy.here["c"] = Presence(online=False, since=0.0)
        assert toy.run()
        assert toy.credited() == {1: ["a", "b"], 2: ["a", "b", "c"], 3: ["a", "b", "c"]}
        start = first_state(Schema(()).of({"branches.grade.w": np.zeros(2, np.float32)}))
        np.testing.assert_allclose(toy.group("branches.grade"), start + 0.75 * (4.0 - start), atol=1e-5)


def test_a_hub_killed_after_a_latecomer_brought_a_task_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    toys = {"a": Toy(1.0, {"mask": 30}), "b": Toy(1.0, {"mask": 10}), "c": Toy(4.0, {"grade": 20})}
    study = study_of({}, sharing={"branches": "task"}, participation={"quorum": 2, "rejoin_seconds": 0.0})
    away, here = Presence(online=False, since=0.0), Presence(online=True, since=0.0)

    def arrive(event: Event) -> None:
        if event.what == "committed" and event.round == 1:
            toy.here["c"] = here

    def die(event: Event) -> None:
        arrive(event)
        if event.what == "joined" and event.site == "c":
            raise Killed

    with ToyFederation(tmp_path / "whole", study, toys, heard=arrive) as toy:
        toy.here["c"] = away
        assert toy.run()
        states, credited = toy.states(), toy.credited()
    with ToyFederation(tmp_path / "cut", study, toys, heard=die) as toy:
        toy.here["c"] = away
        with pytest.raises(Killed):
            toy.run()
    with ToyFederation(tmp_path / "cut", study, toys) as toy:
        assert toy.run()
        assert (toy.states(), toy.credited()) == (states, credited)


@pytest.mark.parametrize("payload", [b"", np.full(11, np.nan, np.float32).tobytes()])
def test_a_first_branch_that_only_a_liar_has_stops_nobody(tmp_path: Path, payload: bytes) -> None:
    toys = {"a": Toy(1.0, {"mask": 30}), "b": Toy(1.0, {"mask": 10}), "c": Toy(4.0, {"grade": 20})}

    def lie(report: Report) -> Report:
        if report.kind is not Kind.JOIN or not report.payload:
            return report
        schema = Schema.from_json(report.schema)
        values = np.frombuffer(payload or report.payload, np.float32)
        digest = schema.group("branches.grade").state_digest(values[schema.groups["branches.grade"]])
        return replace(report, payload=payload, first={**report.first, "branches.grade": digest})

    study = study_of({}, sharing={"branches": "task"}, rounds=1)
    with ToyFederation(tmp_path, study, toys, lies={"c": lie}) as toy:
        assert toy.run()
        assert toy.credited() == {1: ["a", "b"]}


def test_who_is_away_and_not_drawn_changes_no_sample() -> None:
    names = [f"s{number}" for number in range(10)]
    members = {name: Member(name, 10, {"mask": 10}, "", "", True) for name in names}
    study = study_of({}, participation={"quorum": 2, "sample": 0.3})
    asked = chosen(study, members, names, 1)
    assert len(asked) == 3
    other = next(name for name in names if name not in asked)
    assert chosen(study, members, [name for name in names if name != other], 1) == asked
    assert asked[0] not in chosen(study, members, [name for name in names if name != asked[0]], 1)
    assert chosen(study, members, (), 1) == asked  # a hub that has just started sees nobody


def test_a_robust_rule_holds_for_branches_that_cross(tmp_path: Path) -> None:
    toys = {name: Toy(1.0, {"mask": 10}) for name in "abcd"} | {"e": Toy(60.0, {"mask": 10})}
    study = study_of({"rule": "median"}, sharing={"branches": "task"}, participation={"quorum": 3})
    with ToyFederation(tmp_path, study, toys) as toy:
        assert toy.run()
        assert np.abs(toy.group("branches.mask") - 1).max() < 0.2
