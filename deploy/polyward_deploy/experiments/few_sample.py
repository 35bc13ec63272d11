"""Few-sample personalisation: what a shared first layer gives to sites with 50 or 200 digits and few classes each.

Twenty sites, labels by Dirichlet(0.1); a network of one hidden layer (`network`), the same start everywhere; one
epoch in a round at every site, FedRep one of its head and then one of its body; means weighted by samples. The set-up
is that of Collins et al. (arXiv 2102.07078) with the split of MNIST that PFLlib ships.

Each method is a choice of what crosses. LG-FedAvg (arXiv 2001.01523) shares the head and keeps the layer below it: its
study names the head `encoder.head`, since what is shared is the encoder of a study. `local` exchanges nothing.

What counts is the last state as a site receives it, with the site's own head as its last training left it: after own
training a site would be measured on what no other site has, before it on what all have. `trained` is kept beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from polyward_deploy.experiments.digits import CLASSES, INPUTS, Digits
from polyward_deploy.experiments.federate import Found, federate
from polyward_deploy.experiments.network import (
    HEAD,
    HIDDEN,
    WIDTH,
    Network,
    accuracy,
    first_network,
    shuffled,
    train_head,
    train_hidden,
    train_together,
)
from polyward_shared.messages import Metric, Stage
from polyward_shared.schema import Named
from polyward_shared.states import Arrays
from polyward_shared.study import Study

Method = Literal["local", "fedavg", "fedper", "fedrep", "lg-fedavg"]
METHODS: tuple[Method, ...] = get_args(Method)
TITLES: dict[Method, str] = {
    "local": "Local",
    "fedavg": "FedAvg",
    "fedper": "FedPer",
    "fedrep": "FedRep",
    "lg-fedavg": "LG-FedAvg",
}
TASK = "digit"
ROUNDS, BATCH, RATE = 60, 10, 0.05
ENCODER = {name: f"encoder.{name}" for name in HIDDEN}
CROSSES: dict[Method, dict[str, str]] = {  # array of the network -> the name under which it crosses
    "local": {},
    "fedavg": {**ENCODER, **{name: f"branches.{TASK}.{name}" for name in HEAD}},
    "fedper": ENCODER,
    "fedrep": ENCODER,
    "lg-fedavg": {name: f"encoder.{name}" for name in HEAD},
}


@dataclass(frozen=True, slots=True)
class Score:
    """One site's test accuracy at one stage, over `count` cases."""

    site: str
    stage: Stage
    value: float
    count: int


class DigitSite:
    """One site's `Learner`: a network of which a part crosses."""

    def __init__(self, digits: Digits, method: Method, seed: int, number: int) -> None:
        self.counts: Mapping[str, int] = {TASK: len(digits.train_y)}
        self._digits = digits
        self._method = method
        self._crosses = CROSSES[method]
        self._network = first_network(np.random.default_rng(seed), INPUTS, CLASSES)
        self._generator = np.random.default_rng((seed, number))

    def first(self) -> Arrays:
        return self._crossing()

    def train(self, received: Named) -> Arrays:
        network, x, y = self._with(received), self._digits.train_x, self._digits.train_y
        parts = (train_head, train_hidden) if self._method == "fedrep" else (train_together,)
        for part in parts:
            part(network, x, y, rate=RATE, batches=shuffled(self._generator, len(y), BATCH))
        self._network = network
        return self._crossing()

    def measure(self, received: Named, stage: Stage) -> Sequence[Metric]:
        value = accuracy(self._with(received), self._digits.test_x, self._digits.test_y)
        return [Metric(TASK, "test", stage, "accuracy", value, len(self._digits.test_y))]

    def _with(self, received: Named) -> Network:
        """The site's network with what was received in its place."""
        return {**self._network, **{name: received[crossing] for name, crossing in self._crosses.items()}}

    def _crossing(self) -> Arrays:
        return {crossing: self._network[name] for name, crossing in self._crosses.items()}


def study_of(method: Method, seed: int, *, samples: int, sites: int, rounds: int = ROUNDS) -> Study:
    """The study behind a run: everybody in every round, weighted by samples, no update cut short."""
    return Study.model_validate(
        {
            "id": f"few-sample-{method}-{samples}",
            "seed": seed,
            "rounds": rounds,
            "image": {"size": [28, 28]},
            "encoder": {
                "kind": "custom",
                "path": f"{__name__}:{DigitSite.__name__}",
                "options": {"method": method, "width": WIDTH},
            },
            "tasks": {TASK: {"kind": "multiclass", "classes": [str(number) for number in range(CLASSES)]}},
            "training": {
                "schedule": "fedrep" if method == "fedrep" else "fedper",
                "optimiser": "sgd",
                "batch": BATCH,
                "learning_rate": RATE,
                "branch_learning_rate": RATE,
                "momentum": 0.0,
                "weight_decay": 0.0,
                "augmentation": "none",
                "final_epochs": 0,
            },
            "personal": {"alone": False},
            "sharing": {"branches": "task" if method == "fedavg" else "site"},
            "aggregation": {"weighting": "samples", "clip": 0.0},
            "participation": {"quorum": sites},
            "evaluation": {"splits": ["test"], "every": rounds},
        }
    )


def run(
    digits: Sequence[Digits],
    method: Method,
    seed: int,
    folder: Path,
    tell: Callable[[int], None] = lambda _: None,
    rounds: int = ROUNDS,
) -> tuple[list[Score], Found | None]:
    """Every site's accuracy at the end, and what the federation left if there was one."""
    sites = {f"site-{i + 1:02}": DigitSite(each, method, seed, i) for i, each in enumerate(digits)}
    if method == "local":
        for number in range(rounds):
            for site in sites.values():
                site.train({})
            tell(number + 1)
        figures = [(name, row) for name, site in sites.items() for row in site.measure({}, Stage.FINAL)]
        return [Score(name, row.stage, row.value, row.count) for name, row in figures], None
    samples = max(site.counts[TASK] for site in sites.values())
    study = study_of(method, seed, samples=samples, sites=len(sites), rounds=rounds)
    found = federate(study, sites, folder, tell)
    return [Score(name, row.stage, row.value, row.count) for _, name, row in found.metrics], found


def weighted(scores: Sequence[Score], stage: Stage = Stage.FINAL) -> float:
    """The mean over sites, weighted by their test cases."""
    own = [score for score in scores if score.stage is stage]
    return sum(score.value * score.count for score in own) / sum(score.count for score in own)


def worst(scores: Sequence[Score], stage: Stage = Stage.FINAL) -> float:
    return min(score.value for score in scores if score.stage is stage)
