"""A study over real gates: the aggregate by hand, resuming to the byte, and sites that die, differ or lie."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyward_client.port.interface import Done, Watcher, Work
from polyward_server import rounds
from polyward_server.exchange import Presence
from polyward_server.records import Event
from polyward_shared.messages import Kind, Metric, Report, Stage
from polyward_shared.problems import Code, Problem
from polyward_shared.schema import ArraySpec, Flat, Schema
from polyward_shared.study import Study
from tests.support.toy_federation import Toy, ToyFederation
from tests.support.toy_trainer import ENCODER_ARRAYS, first_state, toy_schema, toy_study

TOYS = {
    "a": Toy(1.0, {"mask": 30}),
    "b": Toy(-2.0, {"mask": 10, "grade": 8}),
    "c": Toy(4.0, {"grade": 20}),
}
ENCODER = Schema(ENCODER_ARRAYS)


def pulled(start: Flat, target: float, rounds: int) -> np.ndarray:
    """Half of the way to the weighted mean of the targets, `rounds` times, in float64."""
    values = start.astype(np.float64)
    for _ in range(rounds):
        values += 0.5 * (target - values)
    return values


def test_the_aggregate_is_the_weighted_mean_of_the_updates(tmp_path: Path) -> None:
    with ToyFederation(tmp_path, toy_study(), TOYS) as toy:
        assert toy.run()
        mean = (30 * 1.0 + 10 * -2.0 + 20 * 4.0) / 60  # by samples
        np.testing.assert_allclose(toy.group("encoder", 0), first_state(ENCODER))
        for number in (1, 2, 3):
            wanted = pulled(first_state(ENCODER), mean, number)
            np.testing.assert_allclose(toy.group("encoder", number), wanted, atol=1e-5)
        assert toy.credited() == {1: ["a", "b", "c"], 2: ["a", "b", "c"], 3: ["a", "b", "c"]}
        shares = [each.weight for each in toy.ledger.contributions(toy.digest)[1]]
        assert np.array(shares) / sum(shares) == pytest.approx([30 / 60, 10 / 60, 20 / 60], abs=1e-5)


def test_figures_are_each_sites_own_and_absent_is_absent(tmp_path: Path) -> None:
    few = {**TOYS, "b": Toy(-2.0, {"mask": 10, "grade": 5})}
    with ToyFederation(tmp_path, toy_study(evaluation={"splits": ["test"]}), few) as toy:
        rows = (
            Metric(task="grade", split="test", stage=Stage.TRAINED, name="auroc", value=0.7, count=4),
            Metric(task="mask", split="test", stage=Stage.TRAINED, name="dice", value=0.6, count=5),
        )
        toy.trainers["b"].metrics = rows
        toy.run()
        found = toy.ledger.metrics(toy.digest)
    in_rounds = {(site, m.task, m.name) for number, site, m in found if m.stage is not Stage.FINAL}
    assert {entry for entry in in_rounds if entry[0] == "b"} == {("b", "mask", "dice")}
    assert {entry[1] for entry in in_rounds if entry[0] == "a"} == {"mask"}
    assert {m.value for _, site, m in found if site == "c"} == {4.0}
    assert {(number, site) for number, site, m in found if m.stage is Stage.FINAL} == {(3, s) for s in "abc"}


def test_the_order_of_arrival_does_not_show_in_the_bytes(tmp_path: Path) -> None:
    states = []
    for workers, folder in ((1, "one"), (3, "three")):
        with ToyFederation(tmp_path / folder, toy_study(), TOYS, workers=workers) as toy:
            toy.run()
            states.append(toy.states())
    assert states[0] == states[1]
    assert len(set(states[0])) == 4


def test_in_bfloat16_hub_and_sites_hold_the_same_bytes_and_send_half(tmp_path: Path) -> None:
    study = toy_study(wire={"codec": "bfloat16"})
    with ToyFederation(tmp_path, study, TOYS) as toy:
        toy.run()
        mean = (30 * 1.0 + 10 * -2.0 + 20 * 4.0) / 60
        np.testing.assert_allclose(toy.group("encoder"), pulled(first_state(ENCODER), mean, 3), rtol=0.02)
        for trainer in toy.trainers.values():
            assert [digest for _, digest in trainer.trained] == toy.states()[:3]
        sizes = [(each.bytes_down, each.bytes_up) for each in toy.ledger.contributions(toy.digest)[2]]
        assert sizes == [(18, 18)] * 3


def test_a_site_that_lost_the_state_gets_the_whole_one(tmp_path: Path) -> None:
    def forget(event: Event) -> None:
        if event.what == "committed" and event.round == 1:
            for path in toy.trainers["b"].site.spool.rglob("state-*"):
                path.unlink()

    with ToyFederation(tmp_path, toy_study(wire={"codec": "bfloat16"}), TOYS, heard=forget) as toy:
        toy.run()
        second = {each.site: each for each in toy.ledger.contributions(toy.digest)[2]}
        assert ("b", "state-unknown") in [event[1:] for event in toy.seen("refused")]
    assert (second["b"].attempt, second["b"].bytes_down) == (2, 18 + 36)
    assert (second["a"].attempt, second["a"].bytes_down) == (1, 18)


def test_branches_are_averaged_among_their_owners_only(tmp_path: Path) -> None:
    with ToyFederation(tmp_path, toy_study(sharing={"branches": "task"}), TOYS) as toy:
        toy.run()
        start = first_state(toy_schema(toy.study, ("mask", "grade")))
        grade, mask = start[9:11], start[11:13]
        of_mask, of_grade = (30 * 1.0 - 10 * 2.0) / 40, (-8 * 2.0 + 20 * 4.0) / 28  # by labels of the task
        np.testing.assert_allclose(toy.group("branches.mask"), pulled(mask, of_mask, 3), atol=1e-5)
        np.testing.assert_allclose(toy.group("branches.grade"), pulled(grade, of_grade, 3), atol=1e-5)
        np.testing.assert_allclose(toy.group("encoder"), pulled(start[:9], 1.5, 3), atol=1e-5)


def test_by_default_no_branch_reaches_the_hub(tmp_path: Path) -> None:
    with ToyFederation(tmp_path, toy_study(), TOYS) as toy:
        toy.run()
        for state in toy.states():
            assert set(toy.registry.load(state)[0].groups) == {"encoder"}


class Killed(Exception):
    """Stands for the end of the hub's process."""


@pytest.mark.parametrize("codec", ["float32", "bfloat16"])
def test_a_hub_killed_anywhere_goes_on_to_the_same_bytes(tmp_path: Path, codec: str) -> None:
    """Killed at every one of its first events in turn, again and again over one study: nothing lost or doubled."""
    study = toy_study(wire={"codec": codec})
    toys = {name: TOYS[name] for name in ("a", "c")}
    with ToyFederation(tmp_path / "undisturbed", study, toys) as toy:
        toy.run()
        wanted = toy.states()
        whole = toy.ledger.metrics(toy.digest)
    kills = 0
    for place in range(1, 40):
        count = 0

        def die(_: Event, place: int = place) -> None:
            nonlocal count
            count += 1
            if count == 1 + place % 7:
                raise Killed

        with ToyFederation(tmp_path / "killed", study, toys, heard=die) as toy:
            before = toy.states()
            try:
                finished = toy.run()
            except Killed:
                kills += 1
            else:
                assert finished
                break
            assert toy.states()[: len(before)] == before
    with ToyFederation(tmp_path / "killed", study, toys) as toy:
        toy.run()
        assert kills > 5
        assert toy.states() == wanted
        assert toy.credited() == {number: ["a", "c"] for number in (1, 2, 3)}
        assert sorted(map(str, toy.ledger.metrics(toy.digest))) == sorted(map(str, whole))


def test_a_study_that_is_stopped_goes_on_later(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        toy.stopped = toy.stopped or (event.what, event.round) == ("committed", 2)

    with ToyFederation(tmp_path, toy_study(), TOYS, heard=stop) as toy:
        assert not toy.run()
        assert len(toy.states()) == 3
    with ToyFederation(tmp_path, toy_study(), TOYS) as toy:
        assert toy.run()
        assert len(toy.states()) == 4
        assert toy.trainers["a"].trained[0][0] == 3


def metric(**changes: Any) -> Metric:
    plain = {"task": "mask", "split": "test", "stage": Stage.TRAINED, "name": "dice", "value": 0.5, "count": 9}
    return Metric(**{**plain, **changes})


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


LIES: dict[str, tuple[Callable[[Report], Report], str, Code]] = {
    "nan": (lambda r: replace(r, payload=floats(*[np.nan] * 9)), "misfit", Code.EGRESS_NOT_FINITE),
    "one nan": (lambda r: replace(r, payload=r.payload[:-4] + floats(np.nan)), "misfit", Code.EGRESS_NOT_FINITE),
    "infinite": (lambda r: replace(r, payload=r.payload[:-4] + floats(np.inf)), "misfit", Code.EGRESS_NOT_FINITE),
    "far": (lambda r: replace(r, payload=floats(*[900.0] * 9)), "misfit", Code.EGRESS_NORM),
    "far in one value": (lambda r: replace(r, payload=floats(900.0, *[0.0] * 8)), "misfit", Code.EGRESS_NORM),
    "short": (lambda r: replace(r, payload=r.payload[:-4]), "misfit", Code.EGRESS_SCHEMA),
    "long": (lambda r: replace(r, payload=r.payload + bytes(4)), "misfit", Code.EGRESS_SCHEMA),
    "odd": (lambda r: replace(r, payload=r.payload[:-1]), "misfit", Code.EGRESS_SCHEMA),
    "nothing": (lambda r: replace(r, payload=b""), "misfit", Code.EGRESS_SCHEMA),
    "other codec": (lambda r: replace(r, codec="bfloat16", payload=bytes(18)), "misfit", Code.STATE_MISMATCH),
    "other state": (lambda r: replace(r, state_digest="f" * 64), "misfit", Code.STATE_MISMATCH),
    "other study": (lambda r: replace(r, study="f" * 64), "misfit", Code.STATE_MISMATCH),
    "other round": (lambda r: replace(r, round=r.round + 1), "misfit", Code.STATE_MISMATCH),
    "unknown figure": (lambda r: replace(r, metrics=(metric(name="age"),)), "misfit", Code.EGRESS_METRIC),
    "figure of a task that is not": (lambda r: replace(r, metrics=(metric(task="x"),)), "misfit", Code.EGRESS_METRIC),
    "figure of the end": (lambda r: replace(r, metrics=(metric(stage=Stage.FINAL),)), "misfit", Code.EGRESS_METRIC),
    "interval that is not asked": (
        lambda r: replace(r, metrics=(metric(low=0.4, high=0.6),)),
        "misfit",
        Code.EGRESS_METRIC,
    ),
    "half an interval": (lambda r: replace(r, metrics=(metric(low=0.4),)), "refused", Code.MALFORMED_ORDER),
    "figure is no number": (lambda r: replace(r, metrics=(metric(value=np.nan),)), "refused", Code.MALFORMED_ORDER),
    "negative count": (lambda r: replace(r, metrics=(metric(count=-1),)), "refused", Code.MALFORMED_ORDER),
    "huge count": (lambda r: replace(r, samples=2**62), "refused", Code.MALFORMED_ORDER),
    "seconds": (lambda r: replace(r, seconds=float("inf")), "refused", Code.MALFORMED_ORDER),
}


def only(kind: Kind, lie: Callable[[Report], Report]) -> Callable[[Report], Report]:
    return lambda report: lie(report) if report.kind is kind else report


def test_lying_sites_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    """Two honest sites among twenty that lie, each in its own way, half of them asked and read before the honest."""
    study = toy_study(rounds=1, evaluation={"splits": ["test"]})
    liars = {f"{'az'[place % 2]}{place}": LIES[name] for place, name in enumerate(LIES)}
    toys = {**{name: Toy(9.0, {"mask": 30}) for name in liars}, "m": TOYS["a"], "n": TOYS["b"]}
    lies = {name: only(Kind.TRAIN, lie) for name, (lie, _, _) in liars.items()}
    with ToyFederation(tmp_path, study, toys, lies=lies) as toy:
        assert toy.run()
        for what in ("misfit", "refused"):
            named = {site: detail for number, site, detail in toy.seen(what) if number == 1}
            assert named == {site: code for site, (_, how, code) in liars.items() if how == what}
        assert len(toy.seen("misfit")) + len(toy.seen("refused")) == len(LIES)
        assert toy.credited() == {1: ["m", "n"]}
        np.testing.assert_allclose(toy.group("encoder"), pulled(first_state(ENCODER), (30 - 20) / 40, 1), atol=1e-4)
        figures = {site for _, site, m in toy.ledger.metrics(toy.digest) if m.stage is not Stage.FINAL}
        assert figures == {"m", "n"}


LIES_AT_THE_END: list[tuple[Callable[[Report], Report], Code]] = [
    (lambda r: replace(r, metrics=(metric(stage=Stage.TRAINED),)), Code.EGRESS_METRIC),
    (lambda r: replace(r, metrics=(metric(stage=Stage.RECEIVED),)), Code.EGRESS_METRIC),
    (lambda r: replace(r, metrics=(metric(split="val", stage=Stage.FINAL),)), Code.EGRESS_METRIC),
    (lambda r: replace(r, round=0), Code.STATE_MISMATCH),
    (lambda r: replace(r, state_digest=""), Code.STATE_MISMATCH),
]


def test_intervals_reach_the_ledger_and_those_who_watch_see_the_federated_model(tmp_path: Path) -> None:
    study = toy_study(rounds=1, evaluation={"splits": ["test"], "resamples": 100})
    sure, alone = metric(stage=Stage.FINAL, low=0.4, high=0.6), metric(stage=Stage.ALONE_FINAL, value=0.9)
    lies = {"a": only(Kind.FINISH, lambda report: replace(report, metrics=(sure, alone)))}
    with ToyFederation(tmp_path, study, {name: TOYS[name] for name in ("a", "b")}, lies=lies) as toy:
        assert toy.run()
        assert (1, "a", "mask dice 0.500 [0.400, 0.600] (n=9)") in toy.seen("finished")
        final = [(site, m) for _, site, m in toy.ledger.metrics(toy.digest) if m.stage is Stage.FINAL]
        assert ("a", sure) in final
        assert all(m.low is None and m.high is None for site, m in final if site == "b")


def test_a_lie_at_the_end_does_not_stop_the_study(tmp_path: Path) -> None:
    """A figure of a round that is committed already would break the ledger's keys."""
    study = toy_study(rounds=1, evaluation={"splits": ["test"]})
    toys = {**{f"liar{place}": TOYS["a"] for place in range(len(LIES_AT_THE_END))}, "m": TOYS["a"], "n": TOYS["b"]}
    lies = {f"liar{place}": only(Kind.FINISH, lie) for place, (lie, _) in enumerate(LIES_AT_THE_END)}
    with ToyFederation(tmp_path, study, toys, lies=lies) as toy:
        assert toy.run()
        wanted = {(1, f"liar{place}", str(code)) for place, (_, code) in enumerate(LIES_AT_THE_END)}
        assert set(toy.seen("misfit")) == wanted
        assert {site for _, site, _ in toy.seen("finished")} == {"m", "n"}
        assert {site for _, site, m in toy.ledger.metrics(toy.digest) if m.stage is Stage.FINAL} == {"m", "n"}


BRANCH = ArraySpec("branches.mask.w", (2,))


def with_schema(report: Report, schema: Schema) -> Report:
    return replace(report, schema=schema.to_json(), first=schema.group_digests(first_state(schema)))


NO_SCHEMAS: list[Callable[[Report], Report]] = [
    lambda r: replace(r, schema=""),
    lambda r: replace(r, schema="nonsense"),
    lambda r: replace(r, schema="[" * 100_000),
    lambda r: replace(r, schema='[["encoder.w",[Infinity]]]'),
    lambda r: with_schema(r, Schema((ENCODER_ARRAYS[0], BRANCH, ENCODER_ARRAYS[1]))),
]
LIES_AT_JOINING: list[Callable[[Report], Report]] = [
    lambda r: replace(r, schema="[]", first={}),
    lambda r: replace(r, first={}),
    lambda r: replace(r, first={"encoder": ""}),
    lambda r: replace(r, first={"encoder": "f" * 64}),
    lambda r: replace(r, first={**r.first, "branches.mask": "f" * 64}),
    lambda r: with_schema(r, Schema(ENCODER_ARRAYS[:1])),
    lambda r: with_schema(r, Schema((*ENCODER_ARRAYS, BRANCH))),
    lambda r: with_schema(r, Schema((*ENCODER_ARRAYS, ArraySpec("optimiser.state", (2,))))),
]


def test_sites_that_build_another_encoder_are_named_and_left_out(tmp_path: Path) -> None:
    liars = {f"{'az'[place % 2]}{place}": only(Kind.JOIN, lie) for place, lie in enumerate(LIES_AT_JOINING)}
    toys = {**dict.fromkeys(liars, TOYS["a"]), "m": TOYS["a"], "n": TOYS["b"]}
    with ToyFederation(tmp_path, toy_study(rounds=1), toys, lies=liars) as toy:
        assert toy.run()
        assert {site for _, site, _ in toy.seen("differs")} == set(liars)
        assert toy.credited() == {1: ["m", "n"]}
        np.testing.assert_allclose(toy.group("encoder", 0), first_state(ENCODER))


def test_what_cannot_be_read_as_a_schema_is_kept_nowhere(tmp_path: Path) -> None:
    """Whoever shows the members of a study reads their schemas."""
    liars = {f"{'az'[place % 2]}{place}": only(Kind.JOIN, lie) for place, lie in enumerate(NO_SCHEMAS)}
    toys = {**dict.fromkeys(liars, TOYS["a"]), "m": TOYS["a"], "n": TOYS["b"]}
    with ToyFederation(tmp_path, toy_study(rounds=1), toys, lies=liars) as toy:
        assert toy.run()
        assert {site for _, site, code in toy.seen("misfit") if code == Code.MALFORMED_ORDER} == set(liars)
        assert toy.ledger.members(toy.digest).keys() == {"m", "n"}


def test_a_branch_that_is_no_task_of_the_study_is_not_taken_in(tmp_path: Path) -> None:
    """Its one owner would decide alone what the hub keeps."""
    extra = Schema((*ENCODER_ARRAYS, ArraySpec("branches.evil.w", (2,)), ArraySpec("branches.grade.w", (2,))))
    study = toy_study(rounds=1, sharing={"branches": "task"})
    with ToyFederation(tmp_path, study, TOYS, lies={"c": only(Kind.JOIN, lambda r: with_schema(r, extra))}) as toy:
        assert toy.run()
        assert set(toy.registry.load(toy.states()[0])[0].groups) == {"encoder", "branches.mask", "branches.grade"}


def test_a_site_with_another_first_state_is_named(tmp_path: Path) -> None:
    with ToyFederation(tmp_path, toy_study(rounds=1), TOYS) as toy:
        toy.trainers["a"].first_offset = 1e-7
        assert toy.run()
        assert [site for _, site, _ in toy.seen("differs")] == ["a"]
        assert not toy.ledger.members(toy.digest)["a"].agrees


@pytest.mark.parametrize("payload", [floats(*range(9)), bytes(10)])
def test_a_source_that_sends_other_bytes_than_it_announced_is_passed_over(tmp_path: Path, payload: bytes) -> None:
    lie = only(Kind.JOIN, lambda r: replace(r, payload=payload) if r.payload else r)
    with ToyFederation(tmp_path, toy_study(rounds=1), TOYS, lies={"a": lie}) as toy:
        assert toy.run()
        assert toy.seen("misfit") == [(0, "a", "first state is not what was announced")]
        np.testing.assert_allclose(toy.group("encoder", 0), first_state(ENCODER))


def test_an_answer_about_another_study_is_no_joining(tmp_path: Path) -> None:
    lie = only(Kind.JOIN, lambda r: replace(r, study="f" * 64))
    with ToyFederation(tmp_path, toy_study(rounds=1), TOYS, lies={"c": lie}) as toy:
        assert toy.run()
        assert (0, "c", Code.MALFORMED_ORDER) in toy.seen("misfit")
        assert toy.credited() == {1: ["a", "b"]}


def test_of_a_failure_the_code_reaches_the_hub_and_no_text(tmp_path: Path) -> None:
    def fail(event: Event) -> None:
        if event.what == "committed" and event.round == 1:
            toy.trainers["b"].fail = Code.DATA

    with ToyFederation(tmp_path, toy_study(), TOYS, heard=fail) as toy:
        assert toy.run()
        assert {event[1:] for event in toy.seen("refused")} == {("b", "data")}
        assert toy.credited() == {1: ["a", "b", "c"], 2: ["a", "c"], 3: ["a", "c"]}
    for path in tmp_path.glob("ledger.db*"):
        assert b"patient" not in path.read_bytes()


def test_no_quorum_waits_and_loses_nothing(tmp_path: Path) -> None:
    def mend(event: Event) -> None:
        if event.what == "committed" and event.round == 1:
            toy.trainers["b"].fail = toy.trainers["c"].fail = Code.DATA
        if event.what == "waiting":
            toy.trainers["c"].fail = None

    with ToyFederation(tmp_path, toy_study(rounds=2), TOYS, heard=mend) as toy:
        assert toy.run()
        assert toy.seen("waiting") == [(1, "", "b: data, c: data")]
        assert toy.credited() == {1: ["a", "b", "c"], 2: ["a", "c"]}


def test_without_a_quorum_it_waits_until_somebody_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "RETRY_SECONDS", 60.0)
    waited: list[Event] = []

    def heard(event: Event) -> None:
        if event.what == "waiting":
            waited.append(event)
            threading.Timer(0.3, come).start()

    def come() -> None:
        toy.here["b"] = Presence(online=True, since=0.0)

    with ToyFederation(tmp_path, toy_study(rounds=1), {n: TOYS[n] for n in ("a", "b")}, heard=heard) as toy:
        toy.here["b"] = Presence(online=False, since=0.0)
        began = time.monotonic()
        assert toy.run()
        assert time.monotonic() - began < 30
    assert len(waited) == 1


def test_a_simulation_gives_up_with_what_the_sites_refused(tmp_path: Path) -> None:
    def fail(event: Event) -> None:
        if event.what == "committed" and event.round == 1:
            toy.trainers["b"].fail, toy.trainers["c"].fail = Code.DATA, Code.OUT_OF_MEMORY

    with ToyFederation(tmp_path, toy_study(rounds=2), TOYS, heard=fail, tries=2) as toy:
        with pytest.raises(Problem, match=r"round 2: no quorum in 2 turns \(b: data, c: out-of-memory\)"):
            toy.run()
        assert toy.seen("waiting") == [(1, "", "b: data, c: out-of-memory")] * 2
        toy.trainers["b"].fail = toy.trainers["c"].fail = None
        assert toy.run(), "what was finished is kept"


def test_a_quorum_of_a_task_counts_its_owners(tmp_path: Path) -> None:
    def mend(event: Event) -> None:
        if event.what == "committed" and event.round == 0:
            toy.trainers["c"].fail = Code.DATA
        if event.what == "waiting":
            toy.trainers["c"].fail = None

    rule = {"quorum": 1, "task_quorum": {"grade": 2}, "deadline_seconds": 20.0}
    with ToyFederation(tmp_path, toy_study(rounds=1, participation=rule), TOYS, heard=mend) as toy:
        assert toy.run()
        assert len(toy.seen("waiting")) == 1
        assert toy.credited() == {1: ["a", "b", "c"]}


def test_a_misfit_answer_is_no_step_towards_a_quorum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the deadline, with one good answer and one lie, the slow honest site is still waited for."""
    rule = {"quorum": 2, "deadline_seconds": 0.1}
    lies = {"c": only(Kind.TRAIN, LIES["nan"][0])}
    with ToyFederation(tmp_path, toy_study(rounds=1, participation=rule), TOYS, lies=lies, workers=3) as toy:
        honest = toy.trainers["a"].train

        def slow(work: Work, watch: Watcher) -> Done:
            time.sleep(0.6)
            return honest(work, watch)

        monkeypatch.setattr(toy.trainers["a"], "train", slow)
        assert toy.run()
        assert toy.seen("waiting") == []
        assert toy.credited() == {1: ["a", "b"]}


def test_a_site_that_comes_later_joins_the_next_round(tmp_path: Path) -> None:
    def arrive(event: Event) -> None:
        if event.what == "committed" and event.round == 1:
            toy.here["c"] = Presence(online=True, since=time.time())

    rule = {"quorum": 2, "rejoin_seconds": 0.0}
    with ToyFederation(tmp_path, toy_study(participation=rule), TOYS, heard=arrive) as toy:
        toy.here["c"] = Presence(online=False, since=0.0)
        assert toy.run()
        assert toy.credited() == {1: ["a", "b"], 2: ["a", "b", "c"], 3: ["a", "b", "c"]}
        assert {site for _, site, _ in toy.seen("joined")} == {"a", "b", "c"}


def started(folder: Path, flat: Flat, schema: Schema) -> tuple[Study, ToyFederation]:
    digest = schema.state_digest(flat)
    study = toy_study(rounds=1, encoder={"filters": 4, "blocks": [1, 1], "start": digest})
    toy = ToyFederation(folder, study, TOYS)
    toy.registry.add(schema, flat, {})
    return study, toy


def test_a_registered_encoder_is_where_the_study_starts(tmp_path: Path) -> None:
    flat = np.arange(9, dtype=np.float32)
    study, toy = started(tmp_path, flat, ENCODER)
    with toy:
        assert toy.run()
        assert toy.states()[0] == study.encoder.start
        np.testing.assert_allclose(toy.group("encoder"), pulled(flat, 1.5, 1), atol=1e-5)


def test_a_registered_encoder_of_another_shape_is_a_problem(tmp_path: Path) -> None:
    other = Schema((ArraySpec("encoder.w", (3, 2)), ArraySpec("encoder.b", (3,))))
    _, toy = started(tmp_path, np.arange(9, dtype=np.float32), other)
    with toy, pytest.raises(Problem, match="other arrays than the study's"):
        toy.run()
