"""FedHCA2: every site keeps an encoder and decoders of its own, moved a little by those of the others.

Lu et al., arXiv 2311.13250 (CVPR 2024). With changes Delta_i of the encoders and d_i of the decoders:

    encoder:   theta_i + mean of Delta over the sites with i's tasks + clip(alpha_i, 0, 1) U,  U by CAGrad
    decoders:  phi_i + d_i + clip(beta_i, 0, 1) sum_j a_ij d_j,  a_i = softmax_j(<d_i, d_j> / sqrt(values)), by tensor
    alpha_i:   dL/d alpha_i = <U, sent - returned> = -<U, Delta_i of the next round>; SGD with momentum and decay
    beta_i:    likewise for each tensor, with sum_j a_ij d_j in the place of U

A weight outside [0, 1] has no slope; decay and momentum alone bring it back. Tensors are compared when the rest of
their names, after `branches.<task>.`, and their shapes are equal. A site that is absent keeps everything: what it sends
when it is back is held against the U that it got, whichever round that was.

The memory, by name: `alpha/<site>` [3] (alpha, velocity, number of the U that it got), `step/<number>` [n] (a U that
some site still has to answer), `beta/<site>/<group>` [2, tensors] (betas, velocities) and `attended/<site>/<group>`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyward_server.aggregate.conflict import cagrad
from polyward_server.aggregate.stack import BLOCK, Stack, inner_products
from polyward_shared.schema import ENCODER, Flat, Schema

Array = NDArray[np.float64]
Memory = dict[str, NDArray[np.float32]]
Decoders = Mapping[str, tuple[Schema, Stack]]  # by group

START, RATE, MOMENTUM, DECAY = 0.1, 0.01, 0.9, 1e-4  # of alpha and beta: the authors' own


@dataclass(frozen=True, slots=True)
class Hyper:
    """What each site's arrays move by; good as long as the stacks are open."""

    encoder: Stack
    decoders: Decoders
    tasksets: Mapping[str, frozenset[str]]
    memory: Memory  # for the next round

    def changes(self, site: str) -> dict[str, Array]:
        """What is added to the states of one site that reported: group -> [n]."""
        alpha, _, number = self.memory[f"alpha/{site}"]
        step = self.encoder.combined(companions(self.encoder.sites, self.tasksets, site))
        found = {ENCODER: step + np.clip(float(alpha), 0, 1) * self.memory[f"step/{int(number)}"]}
        for group, (schema, stack) in self.decoders.items():
            if site in stack.sites:
                betas = np.clip(self.memory[f"beta/{site}/{group}"][0].astype(np.float64), 0, 1)
                moved = self.memory[f"attended/{site}/{group}"] * np.repeat(betas, [s.size for s in schema.arrays])
                found[group] = stack.row(site) + moved
        return found


def hyper(
    encoder: Stack,
    decoders: Decoders,
    tasksets: Mapping[str, frozenset[str]],
    c: float,
    memory: Mapping[str, NDArray[np.float32]],
) -> Hyper:
    """One round: the weights learn from the rows that came, then the rows make the steps that they weigh.

    `encoder` holds Delta_i, each against the site's own encoder; `decoders` the rows d_i of each group with the schema
    of its arrays; `tasksets` the tasks of every site of `encoder`. `memory` is empty in the first round.
    """
    after = dict(memory)
    number = max((int(name.partition("/")[2]) for name in memory if name.startswith("step/")), default=-1) + 1
    for site in encoder.sites:
        after[f"alpha/{site}"] = np.array([*_alpha(encoder, site, memory), number], np.float32)
    for group, (schema, stack) in decoders.items():
        for site in stack.sites:
            after[f"beta/{site}/{group}"] = _betas(stack, schema, site, group, memory)
            after[f"attended/{site}/{group}"] = np.zeros(stack.size, np.float32)
    after[f"step/{number}"] = encoder.combined(cagrad(encoder.gram(), c)).astype(np.float32)
    awaited = {f"step/{int(values[2])}" for name, values in after.items() if name.startswith("alpha/")}
    for places in _alike(decoders):
        _attend(places, after)
    kept = {name: values for name, values in after.items() if not name.startswith("step/") or name in awaited}
    return Hyper(encoder, decoders, tasksets, kept)


def companions(sites: Sequence[str], tasksets: Mapping[str, frozenset[str]], site: str) -> Array:
    """Coefficients [N] of the mean over the sites with the very same tasks."""
    same: Array = np.array([tasksets[other] == tasksets[site] for other in sites], np.float64)
    return same / np.count_nonzero(same)


def attention(gram: Array, values: int) -> Array:
    """a [K, K]: softmax of each row of inner products [K, K] over the square root of the tensor's number of values."""
    scores = gram / math.sqrt(values)
    raised = np.exp(scores - scores.max(1, keepdims=True))
    found: Array = raised / raised.sum(1, keepdims=True)
    return found


def learnt(weights: Array, velocities: Array, slopes: Array) -> tuple[Array, Array]:
    """Weights and velocities [T] after one step of SGD; `slopes` are those of the clipped weights."""
    inside = (weights >= 0) & (weights <= 1)
    velocities = MOMENTUM * velocities + np.where(inside, slopes, 0) + DECAY * weights
    return weights - RATE * velocities, velocities


def _alpha(encoder: Stack, site: str, memory: Mapping[str, Flat]) -> tuple[float, float]:
    """Alpha and its velocity, after the row that came in answer to the U that the site got."""
    if f"alpha/{site}" not in memory:
        return START, 0.0
    alpha, velocity, number = memory[f"alpha/{site}"].astype(np.float64)
    slope = -_product(encoder, site, memory[f"step/{int(number)}"], slice(0, encoder.size))
    weights, velocities = learnt(np.array([alpha]), np.array([velocity]), np.array([slope]))
    return float(weights[0]), float(velocities[0])


def _betas(stack: Stack, schema: Schema, site: str, group: str, memory: Mapping[str, Flat]) -> NDArray[np.float32]:
    """Betas and velocities [2, tensors], after the row that came in answer to what the site got."""
    name = f"{site}/{group}"
    if f"beta/{name}" not in memory:
        return np.array([[START] * len(schema.arrays), [0.0] * len(schema.arrays)], np.float32)
    weights, velocities = memory[f"beta/{name}"].astype(np.float64)
    slopes = [-_product(stack, site, memory[f"attended/{name}"], where) for _, where in _tensors(schema)]
    return np.array(learnt(weights, velocities, np.array(slopes)), np.float32)


def _product(stack: Stack, site: str, vector: Flat, where: slice) -> float:
    """<vector, row> over a part, block by block, without BLAS."""
    total = 0.0
    for part in _blocks(where):
        values = stack.row(site, part)
        total += float(np.multiply(values, vector[part], out=values).sum())
    return total


def _blocks(where: slice) -> Iterator[slice]:
    for begin in range(where.start, where.stop, BLOCK):
        yield slice(begin, min(begin + BLOCK, where.stop))


@dataclass(frozen=True, slots=True)
class _Place:
    """One tensor of one site's decoder."""

    stack: Stack
    site: str
    group: str
    where: slice


def _tensors(schema: Schema) -> Iterator[tuple[tuple[str, tuple[int, ...]], slice]]:
    """What a tensor must share with another to be compared (the rest of its name, its shape), and where it lies."""
    start = 0
    for spec in schema.arrays:
        _, _, rest = spec.name.split(".", 2)  # branches.<task>.<rest>
        yield (rest, spec.shape), slice(start, start + spec.size)
        start += spec.size


def _alike(decoders: Decoders) -> list[list[_Place]]:
    """The tensors that are compared with one another, in an order that does not depend on who came first."""
    found: dict[tuple[str, tuple[int, ...]], list[_Place]] = {}
    for group in sorted(decoders):
        schema, stack = decoders[group]
        for key, where in _tensors(schema):
            found.setdefault(key, []).extend(_Place(stack, site, group, where) for site in stack.sites)
    return list(found.values())


def _attend(places: Sequence[_Place], after: Memory) -> None:
    """Writes sum_j a_ij d_j of one tensor into the memory of each of its K places."""
    if not places:
        return
    size = places[0].where.stop - places[0].where.start
    gram = np.zeros((len(places), len(places)))
    for part in _blocks(slice(0, size)):
        gram += inner_products(_rows(places, part))
    shares = attention(gram, size)
    for part in _blocks(slice(0, size)):
        for place, mixed in zip(places, np.einsum("ij,jm->im", shares, _rows(places, part)), strict=True):
            begin = place.where.start
            after[f"attended/{place.site}/{place.group}"][begin + part.start : begin + part.stop] = mixed


def _rows(places: Sequence[_Place], part: slice) -> Array:
    """The same part of each place's tensor [K, m]."""
    return np.stack([p.stack.row(p.site, slice(p.where.start + part.start, p.where.start + part.stop)) for p in places])
