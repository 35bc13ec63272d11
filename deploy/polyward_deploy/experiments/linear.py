"""FedRep's linear representation (Collins et al., arXiv 2102.07078, section 5): can the federation find the subspace?

Every site i sees m vectors x ~ N(0, I)/sqrt(m) in d dimensions and y = <V u_i, x> + N(0, sigma^2): one representation
V [d, k] for all, and a head u_i of its own. A round: the site solves its head by least squares and takes one step on
the shared B [d, k]; the gradients are summed over sites. The hub takes a uniform mean, so that a site steps by
eta * n * its gradient.

`single` is the same with one head for all, which crosses and is trained by gradient steps; `local` fits each site's
own d coefficients by ridge regression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polyward_deploy.experiments.federate import Found, federate
from polyward_shared.messages import Metric, Stage
from polyward_shared.schema import Named
from polyward_shared.states import Arrays
from polyward_shared.study import Study

Values = NDArray[np.float64]
Heads = Literal["own", "single"]

DIMENSIONS, RANK = 20, 2  # d and k
NOISE = 1e-3
TEST_POINTS = 100
RIDGE = 1e-5
ETA_SINGLE = 5e-3  # of gradient steps on representation and head together; ten times as much diverges
TASK = "signal"
SHARED, HEAD = "encoder.representation", f"branches.{TASK}.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """n sites, m samples at each, rate eta, and how many rounds."""

    sites: int = 20
    samples: int = 10
    eta: float = 0.5
    rounds: int = 200


@dataclass(frozen=True, slots=True)
class Points:
    """x [points, dimensions] and y [points]."""

    x: Values
    y: Values


@dataclass(frozen=True, slots=True)
class World:
    """What a seed draws: the true representation [dimensions, rank], sites, and where B starts."""

    truth: Values
    train: tuple[Points, ...]
    test: tuple[Points, ...]
    start: NDArray[np.float32]


def draw(setting: Setting, seed: int) -> World:
    """V from the QR of a Gaussian, the rows u_i of another's Q scaled to norm 1, B from N(0, 1)."""
    generator = np.random.default_rng(seed)
    truth, _ = np.linalg.qr(generator.standard_normal((DIMENSIONS, RANK)))
    heads, _ = np.linalg.qr(generator.standard_normal((setting.sites, RANK)))
    heads /= np.linalg.norm(heads, axis=1, keepdims=True)
    train = _points(generator, setting.samples, heads @ truth.T)
    test = _points(generator, TEST_POINTS, heads @ truth.T)
    return World(truth, train, test, generator.standard_normal((DIMENSIONS, RANK)).astype(np.float32))


def _points(generator: np.random.Generator, count: int, coefficients: Values) -> tuple[Points, ...]:
    """`count` points for each line of coefficients [sites, dimensions]."""
    sites = len(coefficients)
    x = generator.standard_normal((sites, count, DIMENSIONS)) / np.sqrt(count)
    y = np.einsum("smd,sd->sm", x, coefficients) + NOISE * generator.standard_normal((sites, count))
    return tuple(map(Points, x, y))


def solved_head(shared: Values, points: Points) -> Values:
    """The head [rank] with the least squared error on these points, given the representation [dimensions, rank]."""
    return np.asarray(np.linalg.lstsq(points.x @ shared, points.y, rcond=None)[0])


def gradients(shared: Values, head: Values, points: Points) -> tuple[Values, Values]:
    """Of half the sum of squared errors, by representation [dimensions, rank] and by head [rank]."""
    back = points.x.T @ (points.x @ shared @ head - points.y)
    return np.outer(back, head), shared.T @ back


def error(coefficients: Values, points: Points) -> float:
    """Half the sum of squared errors; the noise alone makes 5e-5 of it over 100 points."""
    return float(np.sum((points.x @ coefficients - points.y) ** 2) / 2)


def distance_squared(shared: Values, truth: Values) -> float:
    """The principal angle distance, squared: 0 when both span the same, 1 when a direction is lost."""
    q, _ = np.linalg.qr(shared)
    return float(np.linalg.norm(truth - q @ (q.T @ truth), 2) ** 2)


def ridge(points: Points) -> Values:
    """What a site finds alone: [dimensions]."""
    gram = points.x.T @ points.x + RIDGE * np.eye(DIMENSIONS)
    return np.asarray(np.linalg.solve(gram, points.x.T @ points.y))


class LinearSite:
    """One site's `Learner`: with its own head, which is solved anew in each round, or with the one that all share."""

    def __init__(self, world: World, number: int, heads: Heads, step: float) -> None:
        self.counts: Mapping[str, int] = {TASK: len(world.train[number].y)}
        self._start = world.start
        self._train, self._test = world.train[number], world.test[number]
        self._heads = heads
        self._step = step  # times the gradient: the rate, and n for the hub's mean instead of the paper's sum

    def first(self) -> Arrays:
        """The single head begins at zero, where representation and head can do each other no harm."""
        single = {HEAD: np.zeros(RANK, np.float32)} if self._heads == "single" else {}
        return {SHARED: self._start, **single}

    def train(self, received: Named) -> Arrays:
        shared, head = self._model(received)
        by_shared, by_head = gradients(shared, head, self._train)
        moved = {SHARED: shared - self._step * by_shared}
        if self._heads == "single":
            moved[HEAD] = head - self._step * by_head
        return {name: values.astype(np.float32) for name, values in moved.items()}

    def measure(self, received: Named, stage: Stage) -> Sequence[Metric]:
        shared, head = self._model(received)
        value = error(shared @ head, self._test)
        return [Metric(TASK, "test", stage, "loss", value, len(self._test.y))]

    def _model(self, received: Named) -> tuple[Values, Values]:
        shared = received[SHARED].astype(np.float64)
        if self._heads == "single":
            return shared, received[HEAD].astype(np.float64)
        return shared, solved_head(shared, self._train)


def study_of(setting: Setting, seed: int, heads: Heads) -> Study:
    """The study behind a run: uniform mean, no update cut short, everybody in every round."""
    return Study.model_validate(
        {
            "id": f"linear-{heads}",
            "seed": seed,
            "rounds": setting.rounds,
            "image": {"size": [1, DIMENSIONS]},
            "encoder": {
                "kind": "custom",
                "path": f"{__name__}:{LinearSite.__name__}",
                "options": {"sites": setting.sites, "samples": setting.samples, "eta": setting.eta, "rank": RANK},
            },
            "tasks": {TASK: {"kind": "regression"}},
            "training": {"schedule": "fedrep" if heads == "own" else "fedper", "optimiser": "sgd", "final_epochs": 0},
            "personal": {"alone": False},
            "sharing": {"branches": "site" if heads == "own" else "task"},
            "aggregation": {"weighting": "uniform", "clip": 0.0},
            "participation": {"quorum": setting.sites},
            "evaluation": {"splits": ["test"], "every": setting.rounds},
        }
    )


def run(
    setting: Setting, seed: int, heads: Heads, folder: Path, tell: Callable[[int], None] = lambda _: None
) -> tuple[World, Found]:
    """One federation, to its end."""
    world = draw(setting, seed)
    step = setting.sites * (setting.eta if heads == "own" else ETA_SINGLE)
    learners = {f"site-{i + 1:03}": LinearSite(world, i, heads, step) for i in range(setting.sites)}
    return world, federate(study_of(setting, seed, heads), learners, folder, tell)


def mean_error(found: Found) -> float:
    """Over the sites, with the last state as they received it."""
    return float(np.mean([metric.value for _, _, metric in found.metrics if metric.stage is Stage.FINAL]))
