"""The cut through the pyramid: each task's gradient there, the balancer's weights, one pass through the encoder.

The branches run on detached leaves, so the encoder's graph is entered once, whatever the number of tasks. Gradients
are compared at the pyramid ("features") or at the shared parameters ("parameters": one pass through the encoder for
each task, and exact where the pyramid's levels count differently).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from polyward_client.trainer.balance.balancer import Balancer

Gradients = list[Tensor | None]  # of one task; None where the task does not reach


@dataclass(frozen=True, slots=True)
class Backward:
    """What a step says about its tasks, on the device, without the loss scale. Empty while the encoder stands still,
    except for the weights."""

    tasks: tuple[str, ...]  # the order of the cosines
    weights: dict[str, Tensor]
    norms: dict[str, Tensor]  # L2, where the gradients were compared
    cosines: Tensor  # [K, K]; 0 with a gradient of zero


def leaves(pyramid: Sequence[Tensor]) -> list[Tensor]:
    """What the branches run on: the same values, cut from the encoder.

    In rows, whatever order an encoder left them in: on the CPU, torch 2.13 crashes in the backward pass of convolutions
    over features in another order.
    """
    return [level.detach().contiguous().requires_grad_(level.requires_grad) for level in pyramid]


def backward(
    losses: Mapping[str, Tensor],
    pyramid: Sequence[Tensor],
    leaves: Sequence[Tensor],
    shared: Sequence[nn.Parameter],
    others: Sequence[nn.Parameter],
    balancer: Balancer,
    generator: np.random.Generator,
    *,
    space: Literal["features", "parameters"],
    scale: float = 1.0,
    apart: bool = False,
    balanced: bool = True,
    beside: Tensor | None = None,
) -> Backward:
    """Adds to `.grad` of `shared` (the encoders) and `others` (all other parameters) what this batch says.

    `losses` holds one scalar for each present task. `scale` is mixed precision's loss scale: `.grad` carries it, the
    balancer does not see it. Shared parameters get sum_k w_k dL_k, the others sum_k dL_k, weighted too if the balancer
    scales branches. While no shared parameter moves, or none that is to be `balanced`, a balancer that needs gradients
    is not asked and every weight is 1. db_mtl always works on the parameters. `apart` says that tasks share nothing but
    the leaves, so that what a branch has kept can be freed once its own task is done. `beside` is one more gradient, of
    no task, at the deepest level, where the encoders' parameters reach it; no balancer sees or weighs it.
    """
    if not losses:
        return Backward((), {}, {}, torch.zeros(0, 0))
    names = tuple(losses)
    shared = [parameter for parameter in shared if parameter.requires_grad]
    others = [parameter for parameter in others if parameter.requires_grad]
    levels = [place for place, level in enumerate(pyramid) if level.requires_grad and leaves[place].requires_grad]
    moving = bool(shared and levels)
    cut = [leaves[place] for place in levels] if moving else []
    at_cut, at_others = _per_task(losses, cut, others, scale, apart)
    roots = [pyramid[place] for place in levels]
    if not moving or not balanced:
        weights = _without_gradients(losses, balancer, generator)
        if moving:
            _enter_encoder(roots, _combined(at_cut, list(weights.values())), shared)
        _add(others, _combined(at_others, _branch_weights(balancer, weights)))
        return Backward(names, weights, {}, torch.zeros(0, 0))

    inside = space == "parameters" or balancer.needs_jacobian
    compared = _through_encoder(at_cut, roots, shared, keep=beside is not None) if inside else at_cut
    gram = _gram(compared, roots[0].device) / scale**2
    if balancer.needs_jacobian:
        jacobian = _jacobian(compared, shared) / scale
        weights = balancer.weights(losses, gram, generator, jacobian)
        total = torch.stack(list(weights.values())) @ balancer.gradients(names, jacobian) * scale
        _add(shared, _split(total, shared))
    else:
        weights = balancer.weights(losses, gram, generator)
        combined = _combined(compared, list(weights.values()))
        del at_cut, compared  # as large as the pyramid: their memory serves the pass through the encoder
        if inside:
            _add(shared, combined)
        else:
            if beside is not None:
                combined[-1] = _sum(combined[-1], scale * beside.float())
            _enter_encoder(roots, combined, shared)
    if inside and beside is not None:
        _enter_encoder(roots[-1:], [scale * beside.float()], shared)
    _add(others, _combined(at_others, _branch_weights(balancer, weights)))
    norms = gram.diagonal().clamp(min=0).sqrt()
    lengths = norms.clamp(min=torch.finfo(torch.float32).tiny)
    cosines = gram / lengths[:, None] / lengths[None, :]
    return Backward(names, weights, dict(zip(names, norms.unbind(), strict=True)), cosines.clamp(-1, 1))


def _per_task(
    losses: Mapping[str, Tensor], cut: list[Tensor], others: list[nn.Parameter], scale: float, apart: bool
) -> tuple[list[Gradients], list[Gradients]]:
    """Each task's gradients at the cut and at the other parameters. Tasks may share nodes there: then the graph is
    kept until the last of them."""
    at_cut: list[Gradients] = []
    at_others: list[Gradients] = []
    for place, loss in enumerate(losses.values()):
        found: Gradients = [None] * (len(cut) + len(others))
        if loss.requires_grad and found:
            more = not apart and place + 1 < len(losses)
            found = list(torch.autograd.grad(scale * loss, [*cut, *others], retain_graph=more, allow_unused=True))
        at_cut.append(found[: len(cut)])
        at_others.append(found[len(cut) :])
    return at_cut, at_others


def _through_encoder(
    at_cut: list[Gradients], roots: list[Tensor], shared: list[nn.Parameter], *, keep: bool
) -> list[Gradients]:
    """Each task's gradients at the shared parameters: K passes. `keep` the graph for one more."""
    found: list[Gradients] = []
    for place, row in enumerate(at_cut):
        used = [(root, gradient) for root, gradient in zip(roots, row, strict=True) if gradient is not None]
        if not used:
            found.append([None] * len(shared))
            continue
        outputs, gradients = zip(*used, strict=True)
        more = keep or place + 1 < len(at_cut)
        found.append(list(torch.autograd.grad(outputs, shared, gradients, retain_graph=more, allow_unused=True)))
    return found


def _enter_encoder(roots: list[Tensor], combined: Gradients, shared: list[nn.Parameter]) -> None:
    """The one pass: adds to `.grad` of the shared parameters."""
    used = [
        (root, gradient.to(root.dtype)) for root, gradient in zip(roots, combined, strict=True) if gradient is not None
    ]
    if used:
        outputs, gradients = zip(*used, strict=True)
        torch.autograd.backward(outputs, gradients, inputs=shared)


def _gram(rows: list[Gradients], device: torch.device) -> Tensor:
    """[K, K] inner products in float32, part by part: no copy of all gradients side by side."""
    sums: dict[tuple[int, int], Tensor] = {}
    for parts in zip(*rows, strict=True):
        present = [(place, part.float().flatten()) for place, part in enumerate(parts) if part is not None]
        for first, (place, left) in enumerate(present):
            for other, right in present[first:]:
                product = torch.dot(left, right)
                sums[place, other] = sums[place, other] + product if (place, other) in sums else product
    zero, places = torch.zeros((), device=device), range(len(rows))
    entries = [sums.get((min(one, two), max(one, two)), zero) for one in places for two in places]
    return torch.stack(entries).reshape(len(rows), len(rows))


def _jacobian(rows: list[Gradients], shared: list[nn.Parameter]) -> Tensor:
    """[K, P] in float32; zero where a task does not reach."""
    return torch.stack(
        [
            torch.cat(
                [
                    torch.zeros(parameter.numel(), device=parameter.device) if part is None else part.float().flatten()
                    for part, parameter in zip(row, shared, strict=True)
                ]
            )
            for row in rows
        ]
    )


def _split(flat: Tensor, shared: list[nn.Parameter]) -> Gradients:
    parts = torch.split(flat, [parameter.numel() for parameter in shared])
    return [part.view_as(parameter) for part, parameter in zip(parts, shared, strict=True)]


def _combined(rows: list[Gradients], weights: Sequence[Tensor | float]) -> Gradients:
    """sum_k w_k row_k in float32, part by part; None where no task reaches."""
    found: Gradients = []
    for parts in zip(*rows, strict=True):
        total: Tensor | None = None
        for part, weight in zip(parts, weights, strict=True):
            if part is not None:
                weighted = weight * part.float()
                total = weighted if total is None else total.add_(weighted)
        found.append(total)
    return found


def _sum(one: Tensor | None, other: Tensor) -> Tensor:
    return other if one is None else one + other


def _branch_weights(balancer: Balancer, weights: Mapping[str, Tensor]) -> list[Tensor | float]:
    return [weight if balancer.scales_branches else 1.0 for weight in weights.values()]


def _without_gradients(
    losses: Mapping[str, Tensor], balancer: Balancer, generator: np.random.Generator
) -> dict[str, Tensor]:
    if balancer.needs == "losses":
        return balancer.weights(losses, None, generator)
    return {name: torch.ones_like(loss, dtype=torch.float32) for name, loss in losses.items()}


def _add(parameters: list[nn.Parameter], gradients: Gradients) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            added = gradient.to(parameter.dtype)
            parameter.grad = added if parameter.grad is None else parameter.grad.add_(added)
