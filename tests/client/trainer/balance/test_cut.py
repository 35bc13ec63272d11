"""The cut through the pyramid gives the gradients of a plain backward, and what the balancer asks for."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polyward_client.trainer.balance import rules
from polyward_client.trainer.balance.balancer import Balancer
from polyward_client.trainer.balance.cut import Backward, backward, leaves
from polyward_shared.training import Balancer as Config

Space = Literal["features", "parameters"]
SPACES: tuple[Space, ...] = ("features", "parameters")


class Net(nn.Module):
    """A pyramid of two levels, the second made of the first; b sees an answer of a, and both a unit after the cut."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.ModuleList([nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, stride=2)])
        self.unit = nn.Conv2d(4, 4, 1)
        self.a, self.b, self.c = nn.Linear(4, 1), nn.Linear(5, 1), nn.Conv2d(3, 1, 1)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        first = torch.tanh(self.encoder[0](x))
        return [first, torch.tanh(self.encoder[1](first))]

    def losses(self, levels: list[Tensor]) -> dict[str, Tensor]:
        deep = self.unit(levels[1]).mean((2, 3))
        a = self.a(deep)
        b = self.b(torch.cat([deep, a], 1))
        return {"a": (a - 1).pow(2).mean(), "b": (b + 2).pow(2).mean(), "c": (self.c(levels[0]) - 0.5).pow(2).mean()}

    @property
    def others(self) -> list[nn.Parameter]:
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("encoder.")]


IMAGES = torch.randn(2, 4, 1, 9, 9, generator=torch.Generator().manual_seed(1))


def plain(net: Net, weights: dict[str, float], images: Tensor = IMAGES[0]) -> None:
    losses = net.losses(net.pyramid(images))
    torch.stack([weight * losses[name] for name, weight in weights.items()]).sum().backward()  # type: ignore[no-untyped-call]


def cut(
    net: Net,
    kind: str,
    space: Space,
    names: str = "abc",
    images: Tensor = IMAGES[0],
    scale: float = 1.0,
    **options: Any,
) -> Backward:
    balanced, beside = options.pop("balanced", True), options.pop("beside", None)
    balancer = options.pop("balancer", None) or Balancer(
        Config(kind=kind, **options), tuple("abc"), dict.fromkeys("abc", 1.0)
    )
    pyramid = net.pyramid(images)
    z = leaves(pyramid)
    losses = net.losses(z)
    present = {name: losses[name] for name in names}
    shared, generator = list(net.encoder.parameters()), np.random.default_rng(0)
    return backward(
        present,
        pyramid,
        z,
        shared,
        net.others,
        balancer,
        generator,
        space=space,
        scale=scale,
        balanced=balanced,
        beside=beside,
    )


def gradients(net: Net) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() <= tolerance * max(1.0, float(gradient.abs().max())), name


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("names", ["abc", "ca", "b", "c"])
def test_equal_weights_are_a_plain_backward(space: Space, names: str) -> None:
    net, other = Net(), Net()
    plain(net, dict.fromkeys(names, 1 / len(names)))
    cut(other, "equal", space, names)
    assert_same(gradients(other), gradients(net))  # the same parameters, and the same values


@pytest.mark.parametrize("space", SPACES)
def test_a_scalarising_balancer_weighs_encoder_and_branches(space: Space) -> None:
    net, other = Net(), Net()
    found = cut(other, "gls", space)
    plain(net, {name: weight.item() for name, weight in found.weights.items()})
    assert_same(gradients(other), gradients(net))


@pytest.mark.parametrize("space", SPACES)
def test_a_gramian_rule_weighs_the_encoder_alone(space: Space) -> None:
    net, whole, weighed = Net(), Net(), Net()
    found = cut(net, "mgda", space)
    plain(whole, dict.fromkeys("abc", 1.0))
    plain(weighed, {name: weight.item() for name, weight in found.weights.items()})
    mixed = {
        name: gradients(weighed if name.startswith("encoder.") else whole)[name] for name, _ in net.named_parameters()
    }
    assert_same(gradients(net), mixed)
    assert len({round(weight.item(), 3) for weight in found.weights.values()}) > 1


def test_norms_and_cosines_are_those_of_the_parameters_gradients() -> None:
    rows = []
    for name in "abc":
        net = Net()
        plain(net, {name: 1.0})
        parts = [
            torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in net.encoder.parameters()
        ]
        rows.append(torch.cat(parts))
    jacobian = torch.stack(rows)
    found = cut(Net(), "upgrad", "parameters")
    assert found.tasks == ("a", "b", "c")
    assert list(map(float, found.norms.values())) == pytest.approx(jacobian.norm(dim=1).tolist(), rel=1e-5)
    unit = jacobian / jacobian.norm(dim=1, keepdim=True)
    assert (found.cosines - unit @ unit.T).abs().max() < 1e-5
    wanted = rules.upgrad((jacobian @ jacobian.T).numpy())
    assert list(map(float, found.weights.values())) == pytest.approx(wanted, rel=1e-4)


def test_norms_and_cosines_are_those_at_the_pyramid() -> None:
    net = Net()
    z = leaves(net.pyramid(IMAGES[0]))
    losses = net.losses(z)
    rows = []
    for loss in losses.values():
        parts = torch.autograd.grad(loss, z, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    jacobian = torch.stack(rows)
    found = cut(net, "mgda", "features")
    assert list(map(float, found.norms.values())) == pytest.approx(jacobian.norm(dim=1).tolist(), rel=1e-5)
    assert found.cosines[0, 2] == 0  # a and c see different levels
    assert float(found.cosines[0, 1]) == pytest.approx(
        torch.cosine_similarity(jacobian[0], jacobian[1], 0).item(), rel=1e-4
    )


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["equal", "pcgrad", "gradnorm"])
def test_two_batches_add_up(space: Space, kind: str) -> None:
    both, first, second = Net(), Net(), Net()
    cut(both, kind, space, images=IMAGES[0])
    cut(both, kind, space, images=IMAGES[1])
    cut(first, kind, space, images=IMAGES[0])
    cut(second, kind, space, images=IMAGES[1])
    one, two = gradients(first), gradients(second)
    assert_same(gradients(both), {name: one[name] + two[name] for name in one})


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["uncertainty", "cagrad", "gradnorm", "db_mtl"])
def test_the_loss_scale_is_in_the_gradients_and_nowhere_else(space: Space, kind: str) -> None:
    net, scaled = Net(), Net()
    found, same = cut(net, kind, space), cut(scaled, kind, space, scale=1024.0)
    assert_same({name: gradient / 1024 for name, gradient in gradients(scaled).items()}, gradients(net))
    for part in ("weights", "norms"):
        left, right = getattr(found, part), getattr(same, part)
        assert list(map(float, left.values())) == pytest.approx(list(map(float, right.values())), rel=1e-4)


@pytest.mark.parametrize("space", SPACES)
def test_db_mtl_gives_every_task_the_same_length_at_the_parameters(space: Space) -> None:
    """Without memory the encoder's gradient is the sum of K unit gradients times the longest of the log-losses'."""
    rows = []
    for name in "abc":
        one = Net()
        plain(one, {name: 1.0})
        loss = one.losses(one.pyramid(IMAGES[0]))[name].item()
        parts = [
            torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() / loss
            for p in one.encoder.parameters()
        ]
        rows.append(torch.cat(parts))
    jacobian = torch.stack(rows)
    lengths = jacobian.norm(dim=1, keepdim=True)
    net = Net()
    cut(net, "db_mtl", space, decay=0.0)
    found = torch.cat([p.grad.flatten() for p in net.encoder.parameters() if p.grad is not None])
    assert (found - (jacobian / lengths).sum(0) * lengths.max()).abs().max() < 1e-5 * found.abs().max()


@pytest.mark.parametrize("kind", ["equal", "mgda", "db_mtl", "gradnorm"])
def test_a_standing_encoder_lets_the_branches_learn(kind: str) -> None:
    net, other = Net(), Net()
    net.encoder.requires_grad_(False)
    found = cut(net, kind, "features")
    weight = 1 / 3 if kind == "equal" else 1.0
    assert [w.item() for w in found.weights.values()] == pytest.approx([weight] * 3)
    plain(other, dict.fromkeys("abc", weight))
    assert_same(gradients(net), {n: g for n, g in gradients(other).items() if not n.startswith("encoder.")})


def test_standing_branches_let_the_encoder_learn() -> None:
    net, other = Net(), Net()
    for parameter in net.others:
        parameter.requires_grad_(False)
    cut(net, "equal", "features")
    plain(other, dict.fromkeys("abc", 1 / 3))
    assert_same(gradients(net), {n: g for n, g in gradients(other).items() if n.startswith("encoder.")})


def test_nothing_that_moves_and_no_task_are_no_step() -> None:
    net = Net().requires_grad_(False)
    cut(net, "equal", "features")
    assert gradients(net) == {}
    assert cut(Net(), "mgda", "features", names="").weights == {}


def test_features_need_one_pass_through_the_encoder() -> None:
    """The encoder's first weight counts the passes that reach it: one, or one for each task."""
    passes = dict.fromkeys(SPACES, 0)
    for space in SPACES:
        net = Net()

        def count(_: Tensor, space: Space = space) -> None:
            passes[space] += 1

        next(net.encoder.parameters()).register_hook(count)  # type: ignore[no-untyped-call]
        cut(net, "mgda", space)
    assert passes == {"features": 1, "parameters": 3}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["equal", "mgda", "db_mtl"])
@pytest.mark.parametrize("names", ["abc", "c"])  # c alone does not reach the deepest level
def test_a_gradient_of_no_task_joins_unweighed_and_unseen(kind: str, space: Space, names: str) -> None:
    net, other, alone = Net(), Net(), Net()
    deepest = alone.pyramid(IMAGES[0])[1]
    beside = torch.randn(deepest.shape, generator=torch.Generator().manual_seed(3))
    deepest.backward(beside)  # type: ignore[no-untyped-call]
    without, found = cut(net, kind, space, names, scale=4.0), cut(other, kind, space, names, scale=4.0, beside=beside)
    wanted = {
        name: gradient + (4.0 * gradients(alone)[name] if name in gradients(alone) else 0)
        for name, gradient in {
            **{n: torch.zeros_like(g) for n, g in gradients(alone).items()},
            **gradients(net),
        }.items()
    }
    assert_same(gradients(other), wanted, 1e-4)
    assert {name: float(w) for name, w in found.weights.items()} == {n: float(w) for n, w in without.weights.items()}
    assert torch.equal(found.cosines, without.cosines)


@pytest.mark.parametrize("space", SPACES)
def test_shared_parameters_that_are_not_to_be_balanced_get_the_plain_sum(space: Space) -> None:
    net, other = Net(), Net()
    plain(net, dict.fromkeys("abc", 1.0))
    found = cut(other, "mgda", space, balanced=False)
    assert_same(gradients(other), gradients(net))
    assert [float(weight) for weight in found.weights.values()] == [1, 1, 1]
    assert found.norms == {}
