"""Learning rates across the rounds."""

from __future__ import annotations

import pytest

from polyward_client.trainer.schedule import Phase, final_phases, join_phases, rate_factor, round_phases
from polyward_shared.training import Training

ROUNDS = 4


def factors(training: Training, rounds: int = ROUNDS) -> list[float]:
    return [rate_factor(training, number, rounds) for number in range(1, rounds + 1)]


def test_constant_rates_stay() -> None:
    assert factors(Training()) == [1, 1, 1, 1]


def test_linear_rates_fall_by_equal_steps_and_the_last_round_still_moves() -> None:
    assert factors(Training(rate_schedule="linear")) == [1, 0.75, 0.5, 0.25]


def test_cosine_rates_fall_slowly_at_both_ends() -> None:
    # (1 + cos 0°, 45°, 90°, 135°) / 2
    assert factors(Training(rate_schedule="cosine")) == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_warm_up_rises_by_equal_steps_to_the_full_rate() -> None:
    assert factors(Training(warmup_rounds=1)) == [0.5, 1, 1, 1]
    assert factors(Training(warmup_rounds=3)) == [0.25, 0.5, 0.75, 1]


def test_the_fall_begins_after_the_warm_up() -> None:
    training = Training(rate_schedule="linear", warmup_rounds=1)
    assert factors(training, 5) == [0.5, 1, 0.75, 0.5, 0.25]


def test_a_warm_up_longer_than_the_study_never_reaches_the_full_rate() -> None:
    assert factors(Training(rate_schedule="cosine", warmup_rounds=7), 2) == [0.125, 0.25]


def test_rounds_beyond_the_last_repeat_it() -> None:
    assert rate_factor(Training(rate_schedule="linear"), 9, ROUNDS) == 0.25


@pytest.mark.parametrize("schedule", ["fedper", "fedrep"])
def test_both_rates_of_a_round_follow_the_factor(schedule: str) -> None:
    training = Training.model_validate(
        {"schedule": schedule, "learning_rate": 0.5, "branch_learning_rate": 2.0, "rate_schedule": "linear"}
    )
    rates = [pair for phase in round_phases(training, 3, ROUNDS) for pair in phase.rates.items()]
    assert dict(rates) == {"encoder": 0.25, "private": 0.25, "personal": 1.0}


def test_without_a_round_and_in_the_final_tuning_rates_are_full() -> None:
    training = Training(rate_schedule="cosine", warmup_rounds=0, branch_learning_rate=0.5, final_epochs=2)
    assert round_phases(training) == (Phase("together", 1, {"encoder": 1e-3, "private": 1e-3, "personal": 0.5}),)
    final = (Phase("final", 2, {"private": 1e-3, "personal": 0.5}),)
    assert final_phases(training.model_copy(update={"warmup_rounds": 2})) == final


@pytest.mark.parametrize(
    ("schedule", "joining", "round", "final"),
    [
        ("fedper", ["p"], ["ep"], ["p"]),
        ("fedrep", ["p"], ["p", "e"], ["p"]),
        ("fedbabu", [], ["e"], ["p"]),
    ],
)
def test_which_parts_move_when(schedule: str, joining: list[str], round: list[str], final: list[str]) -> None:
    def moving(phases: tuple[Phase, ...]) -> list[str]:
        parts = {"e": "encoder", "p": "branches.mask"}
        assert all(phase.rate("private") == 0.5 for phase in phases), "as personal as a branch, at the encoder's rate"
        return ["".join(key for key, part in parts.items() if phase.rate(part) is not None) for phase in phases]

    training = Training.model_validate({"schedule": schedule, "learning_rate": 0.5})
    found = moving(join_phases(training)), moving(round_phases(training)), moving(final_phases(training))
    assert found == (joining, round, final)
    everything = training.model_copy(update={"final_parts": "all"})
    assert moving(final_phases(everything)) == ["ep"]


def test_a_site_that_joins_warms_its_branches_at_their_full_rate() -> None:
    training = Training(rate_schedule="linear", warmup_rounds=3, branch_learning_rate=0.5, join_epochs=4)
    (phase,) = join_phases(training)
    assert (phase.epochs, phase.rate("branches.mask"), phase.rate("encoder")) == (4, 0.5, None)
