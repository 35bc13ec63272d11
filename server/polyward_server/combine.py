"""From the gathered updates of a round to the next state: the study's rule for the encoder, means for all else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polyward_server.aggregate import fold, sketch
from polyward_server.aggregate.change import change, mean
from polyward_server.aggregate.clusters import cluster, followed
from polyward_server.aggregate.diagnostics import Diagnostics, diagnose
from polyward_server.aggregate.fedhca2 import hyper
from polyward_server.aggregate.optimise import optimised
from polyward_server.aggregate.stack import Stack
from polyward_server.gather import Gathering
from polyward_server.shared_state import VARIANT, Shared, group_of_key
from polyward_shared.codec import decode, encode
from polyward_shared.schema import BRANCHES, ENCODER, PRECISION, STATISTICS, Flat, Named
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study

Change = NDArray[np.float64]


@dataclass(slots=True)
class _Next:
    """What becomes of the state: new vectors by key, who holds which, and the rule's memory."""

    groups: dict[str, Flat] = field(default_factory=dict)
    variants: dict[str, dict[str, str]] = field(default_factory=dict)
    memory: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def next_state(study: Study, shared: Shared, gathered: Gathering, number: int) -> Shared:
    """The state after the round. Empties what was gathered: it is the largest thing here."""
    found = _Next(variants=dict(shared.variants), memory=dict(shared.memory))
    match study.aggregation.traits.encoders:
        case "one":
            _one_encoder(study, shared, gathered, number, found)
        case "several":
            _clusters(study, shared, gathered, found)
        case "each":
            _own_encoders(study, shared, gathered, found)
    following = Shared(shared.schemas, {}, found.variants, found.memory)
    for key in sorted(shared.groups.keys() | found.groups.keys()):
        base = shared.value(key)
        result = found.groups.pop(key, base)
        if study.wire.codec == "bfloat16":  # what the sites will reconstruct is the truth, at the hub too
            following.changes[key] = encode("bfloat16", result, base)
            result = decode("bfloat16", following.changes[key], base)
        following.groups[key] = result
    return following


def diagnosed(gathered: Gathering) -> Diagnostics:
    """How the sites' updates of the encoder stand to one another."""
    if gathered.streams:
        sites = tuple(sorted(gathered.sketches))
        gram = sketch.gram(np.stack([gathered.sketches[site] for site in sites]))
    else:
        sites, gram = gathered.stacks[ENCODER].sites, gathered.stacks[ENCODER].gram()
    weights = {site: gathered.given[site].weight for site in sites}
    return diagnose(sites, gram, weights)


def _one_encoder(study: Study, shared: Shared, gathered: Gathering, number: int, found: _Next) -> None:
    rule = study.aggregation
    for key in [*gathered.folds, *gathered.stacks]:
        group, base = group_of_key(key), shared.value(key)
        if group == PRECISION:
            continue  # it weighs, and is not itself a state that anybody goes on from
        if rule.optimiser == "none" and key in gathered.folds:
            found.groups[key] = fold.mean(gathered.folds.pop(key), base)
            continue
        step = _step(study, gathered, key, number)
        if rule.optimiser != "none" and group != STATISTICS:
            own = {name.removeprefix(f"{key}/"): a for name, a in shared.memory.items() if name.startswith(f"{key}/")}
            step, memory = optimised(rule, step, own)
            found.memory |= {f"{key}/{name}": array for name, array in memory.items()}
        found.groups[key] = _moved(base, step)


def _step(study: Study, gathered: Gathering, key: str, number: int) -> Change:
    """The change of one group: the study's rule for the encoder; for all else the weighted mean, or a robust rule."""
    if key in gathered.folds:
        running = gathered.folds.pop(key)
        return running.total / (fold.UNIT * running.weight)
    stack, weights, group = gathered.stacks[key], gathered.weights[key], group_of_key(key)
    if group != ENCODER and not study.aggregation.traits.robust:
        return mean(stack, weights)
    return change(
        study.aggregation,
        stack,
        weights,
        seed=seed_for(study.seed, "aggregation", number),
        precision=gathered.stacks.get(PRECISION),
    )


def _clusters(study: Study, shared: Shared, gathered: Gathering, found: _Next) -> None:
    """Sites whose encoders have gone the same way go on from one of their own; newcomers from the largest cluster's."""
    stack, weights = gathered.stacks[ENCODER], gathered.weights[ENCODER]
    states = Stack(gathered.folder / "states", stack.size)
    for site in stack.sites:
        base = shared.value(gathered.held[site])
        states.add(site, _moved(base, stack.row(site)), np.zeros_like(base))
    labels = cluster(states.gram(), study.aggregation.clusters)
    before = {
        site: int(key.partition(VARIANT)[2]) for site, own in shared.variants.items() if (key := own.get(ENCODER))
    }
    numbers = followed(labels, states.sites, before)
    found.variants = {site: {ENCODER: f"{ENCODER}{VARIANT}{number}"} for site, number in numbers.items()}
    for number in sorted(set(labels.tolist())):
        inside = {site: weights[site] for site, label in zip(states.sites, labels, strict=True) if label == number}
        found.groups[f"{ENCODER}{VARIANT}{number}"] = mean(states, inside).astype(np.float32)
    largest = Counter(labels.tolist()).most_common(1)[0][0]  # of equally large ones the first
    found.groups[ENCODER] = found.groups[f"{ENCODER}{VARIANT}{largest}"]
    _means_of_others(shared, gathered, found)
    states.close()


def _own_encoders(study: Study, shared: Shared, gathered: Gathering, found: _Next) -> None:
    """FedHCA2: every site goes on from an encoder and decoders of its own, moved a little by those of the others."""
    given = gathered.stacks[ENCODER].sites
    numbers = {site: int(own[ENCODER].partition(VARIANT)[2]) for site, own in shared.variants.items()}
    for site in given:
        numbers.setdefault(site, max(numbers.values(), default=-1) + 1)
    decoders = {
        group: (shared.schemas[group], stack) for group, stack in gathered.stacks.items() if group.startswith(BRANCHES)
    }
    tasksets = {site: frozenset(gathered.schemas[site].groups) - {ENCODER} for site in given}
    moved = hyper(gathered.stacks[ENCODER], decoders, tasksets, study.aggregation.c, shared.memory)
    found.memory = dict(moved.memory)
    for site in given:
        own = {}
        for group, step in moved.changes(site).items():
            own[group] = f"{group}{VARIANT}{numbers[site]}"
            found.groups[own[group]] = _moved(shared.value(shared.variants.get(site, {}).get(group, group)), step)
        found.variants[site] = own
    keys = [own[ENCODER] for own in found.variants.values()]
    encoders = [found.groups[key] if key in found.groups else shared.groups[key] for key in keys]
    total = np.zeros(encoders[0].size)
    for each in encoders:
        total += each
    found.groups[ENCODER] = (total / len(encoders)).astype(np.float32)
    _means_of_others(shared, gathered, found)


def _means_of_others(shared: Shared, gathered: Gathering, found: _Next) -> None:
    for key, stack in gathered.stacks.items():
        if group_of_key(key) == STATISTICS:
            found.groups[key] = _moved(shared.groups[key], mean(stack, gathered.weights[key]))


def _moved(base: Flat, step: Change) -> Flat:
    """base [n] + step [n], in float32, slice by slice."""
    result = np.empty_like(base)
    for begin in range(0, base.size, fold.SLICE):
        part = slice(begin, begin + fold.SLICE)
        result[part] = base[part] + step[part]
    return result


def drift(state: Named, first: Named) -> float:
    """The distance of the encoder from the `first` one, array by array, so that neither is copied."""
    total = 0.0
    for name, array in state.items():
        apart = array.astype(np.float64) - first[name]
        total += float(np.square(apart, out=apart).sum())
    return float(np.sqrt(total))
