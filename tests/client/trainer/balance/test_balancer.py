"""What every balancer promises: finite weights, absent tasks left alone, and a memory that survives the vault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchjd.aggregation import MGDAWeighting

from polyward_client.trainer.balance.balancer import Balancer
from polyward_client.trainer.balance.kinds import KINDS, kind_of
from polyward_shared.problems import Problem
from polyward_shared.training import BALANCERS
from polyward_shared.training import Balancer as Config

EVERY = (*BALANCERS, "torchjd:PCGrad")


def make(kind: str, names: str, **options: Any) -> Balancer:
    return Balancer(Config(kind=kind, **options), tuple(names), {name: i + 1.0 for i, name in enumerate(names)})


def one_step(balancer: Balancer, seed: int, names: str, *, ends: bool = False) -> dict[str, float]:
    """Losses and gradients that depend on the seed and the task alone; all that a trainer does in a step."""
    losses = {name: torch.tensor(_drawn(seed, name, 1)[0]).abs() for name in names}
    jacobian = torch.tensor(np.stack([_drawn(seed, name, 5) for name in names]))
    found = balancer.weights(losses, jacobian @ jacobian.T, np.random.default_rng(seed), jacobian)
    if balancer.wants_after:
        balancer.after({name: loss * 0.5 + 0.1 for name, loss in losses.items()})
    if ends:
        balancer.end_epoch()
    assert all(weight.dtype == torch.float32 and not weight.requires_grad for weight in found.values())
    return {name: weight.item() for name, weight in found.items()}


def _drawn(seed: int, name: str, size: int) -> Any:
    return np.random.default_rng([seed, ord(name), size]).normal(size=size).astype(np.float32)


def rows(balancer: Balancer, names: str) -> dict[str, Tensor]:
    places = [balancer.tasks.index(name) for name in names]
    return {name: row[places].clone() for name, row in balancer.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(left[name].nan_to_num(-7.0), right[name].nan_to_num(-7.0)) for name in left
    )


def test_every_kind_of_the_study_exists() -> None:
    assert set(KINDS) == set(BALANCERS)


@pytest.mark.parametrize("kind", EVERY)
def test_a_restored_balancer_goes_on_with_the_same_weights(kind: str) -> None:
    first, second = make(kind, "abc"), make(kind, "abc")
    for seed in range(4):
        one_step(first, seed, "abc" if seed else "ca", ends=True)
    saved = {name: row.clone() for name, row in first.state_dict().items()}
    assert all(row.dtype == torch.float32 and len(row) == 3 for row in saved.values())
    second.load_state_dict(saved)
    for seed in range(4, 8):
        assert one_step(first, seed, "abc", ends=True) == one_step(second, seed, "abc", ends=True)
    assert same(first.state_dict(), second.state_dict())


@pytest.mark.parametrize("kind", ["uncertainty", "imtl_l", "famo", "gradnorm", "dwa"])
def test_a_balancer_that_learns_does_not_go_on_alike_without_its_memory(kind: str) -> None:
    first, fresh = make(kind, "abc"), make(kind, "abc")
    for seed in range(4):
        one_step(first, seed, "abc", ends=True)
    assert one_step(first, 9, "abc") != one_step(fresh, 9, "abc")


@pytest.mark.parametrize("kind", EVERY)
def test_a_task_that_never_comes_changes_nothing_for_the_others(kind: str) -> None:
    with_c, without = make(kind, "abc"), make(kind, "ab")
    for seed in range(5):
        found = one_step(with_c, seed, "ab", ends=seed % 2 == 1)
        assert found == one_step(without, seed, "ab", ends=seed % 2 == 1)
    assert same(rows(with_c, "ab"), rows(without, "ab"))


@pytest.mark.parametrize("kind", EVERY)
def test_the_memory_of_an_absent_task_is_untouched(kind: str) -> None:
    balancer = make(kind, "abc")
    one_step(balancer, 0, "abc", ends=True)
    one_step(balancer, 1, "abc", ends=True)
    kept, moved = rows(balancer, "b"), rows(balancer, "ac")
    for seed in range(2, 5):
        one_step(balancer, seed, "ca", ends=True)
    assert same(rows(balancer, "b"), kept)
    if kind in {"uncertainty", "imtl_l", "famo", "gradnorm", "dwa", "db_mtl"}:
        assert not same(rows(balancer, "ac"), moved)


@pytest.mark.parametrize("kind", EVERY)
def test_a_step_that_is_not_finite_leaves_no_trace(kind: str) -> None:
    balancer = make(kind, "ab")
    one_step(balancer, 0, "ab")
    kept = rows(balancer, "ab")
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}
    bad = torch.full((2, 5), torch.inf)
    balancer.weights(losses, bad @ bad.T, np.random.default_rng(0), bad)
    broken = {"a": torch.tensor(torch.nan), "b": torch.tensor(2.0)}
    balancer.weights(broken, torch.eye(2), np.random.default_rng(0), torch.ones(2, 5))
    after = rows(balancer, "ab")
    if kind == "famo":  # what it saw before the step belongs to that step alone
        after.pop("before"), kept.pop("before")
    assert same(after, kept)


def test_an_overflow_of_db_mtl_reaches_the_loss_scaler() -> None:
    balancer = make("db_mtl", "ab")
    bad = torch.full((2, 5), torch.inf)
    balancer.weights({"a": torch.ones(()), "b": torch.ones(())}, bad @ bad.T, np.random.default_rng(0), bad)
    found = balancer.gradients("ab", bad)
    assert found.shape == (2, 5)
    assert found.isnan().all()


@settings(deadline=None)
@given(
    st.sampled_from(BALANCERS),
    st.lists(st.sampled_from([0.0, 1e-30, 1e-8, 1e-3, 1.0, 1e4]), min_size=2, max_size=4),
    st.lists(st.sampled_from([-1e6, -1.0, -1e-12, 0.0, 1e-30, 1.0]), min_size=4, max_size=4),
    st.booleans(),
)
def test_weights_stay_finite_for_tiny_losses_and_collinear_or_zero_gradients(
    kind: str, values: list[float], sizes: list[float], collinear: bool
) -> None:
    names = "abcd"[: len(values)]
    balancer = make(kind, names, rate=1.0)
    directions = np.random.default_rng(3).normal(size=(1 if collinear else len(values), 4)).astype(np.float32)
    jacobian = torch.tensor(directions * np.array(sizes[: len(values)], dtype=np.float32)[:, None])
    losses = {name: torch.tensor(value) for name, value in zip(names, values, strict=True)}
    for step in range(30):
        found = balancer.weights(losses, jacobian @ jacobian.T, np.random.default_rng(step), jacobian)
        balancer.after({name: loss * 0.5 for name, loss in losses.items()})
        balancer.end_epoch()
        assert all(weight.isfinite() for weight in found.values())
    memory = balancer.state_dict()
    unset = memory.pop("reference").isnan()
    assert unset.tolist() == [torch.tensor(value).item() == 0 for value in values]
    assert all(row.isfinite().all() for row in memory.values())


def test_the_reference_is_each_tasks_first_loss_ever() -> None:
    balancer = make("equal", "abc")
    for losses in ({"b": 3.0}, {"b": 2.0, "a": 5.0}):
        found = {name: torch.tensor(loss) for name, loss in losses.items()}
        balancer.weights(found, None, np.random.default_rng(0))
    assert balancer.get_buffer("reference").nan_to_num(-1.0).tolist() == [5.0, 3.0, -1.0]


def test_a_first_loss_of_zero_is_no_reference() -> None:
    balancer = make("gradnorm", "ab")
    for losses in ({"a": 0.0, "b": 2.0}, {"a": 4.0, "b": 1.0}, {"a": 3.0, "b": 0.0}):
        found = {name: torch.tensor(loss) for name, loss in losses.items()}
        weights = balancer.weights(found, torch.eye(2), np.random.default_rng(0))
        assert all(weight.isfinite() for weight in weights.values())
    assert balancer.get_buffer("reference").tolist() == [4.0, 2.0]


def test_no_task_at_all_is_no_step() -> None:
    assert make("mgda", "ab").weights({}, None, np.random.default_rng(0)) == {}


def test_a_rule_about_the_shared_gradient_leaves_branches_their_own_losses() -> None:
    rules = {"pcgrad", "mgda", "imtl_g", "aligned_mtl", "cagrad", "db_mtl", "upgrad"}
    losses = {"equal", "fixed", "uncertainty", "dwa", "rlw", "gls", "imtl_l", "famo"}
    assert {kind for kind in rules | losses if not make(kind, "ab").scales_branches} == rules
    assert {kind for kind in rules | losses if make(kind, "ab").needs == "gradients"} == rules
    assert make("gradnorm", "ab").needs == "gradients"
    assert make("gradnorm", "ab").scales_branches


def test_torchjds_weightings_serve_under_their_names() -> None:
    gram = torch.tensor([[1.0, -0.5, 0.2], [-0.5, 2.0, 0.1], [0.2, 0.1, 3.0]])
    losses = {name: torch.ones(()) for name in "abc"}
    found = make("torchjd:MGDA", "abc").weights(losses, gram, np.random.default_rng(0))
    assert torch.equal(torch.stack(list(found.values())), MGDAWeighting()(gram))


def test_torchjds_own_draws_follow_our_generator() -> None:
    gram = torch.tensor([[1.0, -0.9, -0.5], [-0.9, 2.0, -0.8], [-0.5, -0.8, 3.0]])
    losses = {name: torch.ones(()) for name in "abc"}
    balancer, before = make("torchjd:PCGrad", "abc"), torch.random.get_rng_state()
    found = [str(balancer.weights(losses, gram, np.random.default_rng(seed))) for seed in (0, 0, 1, 2, 3, 4)]
    assert found[0] == found[1]
    assert len(set(found)) > 1
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("torchjd:Nothing", "no NothingWeighting"),
        ("torchjd:CAGrad", "without arguments"),
        ("torchjd:GradVac", "memory of its own"),
        ("median", "expected one of equal"),
    ],
)
def test_a_balancer_that_cannot_serve_is_a_problem(kind: str, words: str) -> None:
    with pytest.raises(Problem, match=words):
        kind_of(kind)
