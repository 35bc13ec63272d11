"""`polyward-sim bench linear`: the runs of the linear representation experiment, its tables, curves and pass marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure as Drawing
from rich.console import Console

from polyward_deploy.experiments.federate import scratch
from polyward_deploy.experiments.linear import (
    DIMENSIONS,
    ETA_SINGLE,
    RIDGE,
    SHARED,
    Heads,
    Setting,
    distance_squared,
    error,
    mean_error,
    ridge,
    run,
)
from polyward_deploy.experiments.outcome import Figure, Mark, Outcome, Sheet, circumstances, values_of
from polyward_deploy.experiments.runs import Ran, Run, Settings, Tell, finished
from polyward_deploy.plots import INK, SERIES, STYLE, svg

NAME = "linear"
SEEDS = (0, 1, 2, 3, 4)
HEADS: tuple[Heads, ...] = ("own", "single")
METHODS: dict[Heads, str] = {"own": "FedRep", "single": "single head"}
LOCAL = "local only"
LARGEST_DISTANCE, LARGEST_ERROR = 1e-5, 1e-4
ENOUGH = 0.8  # of the seeds
FAR = 100.0  # how many times the federation's error local-only and the single head must have
SHOWN = (100, 150, 200)
EXPECTED = (
    "9.0e-6, at most 6.4e-4",
    "4.1e-6, at most 8.5e-6",
    "4.1e-6, at most 6.7e-6",
    "at most 5.7e-5",
    "0.244",
    "0.54",
)
SOURCE = (
    "Set-up: Collins, Hassani, Mokhtari, Shakkottai, Exploiting Shared Representations for Personalized Federated "
    "Learning (arXiv 2102.07078), linear experiment, with n = 20 sites, m = 10 samples and rate 0.5. Expected figures: "
    "the same worlds in a plain numpy loop, seeds 0 to 19."
)


def short(value: float) -> str:
    """One digit and a power of ten: 1e-5."""
    return f"{value:.0e}".replace("e-0", "e-").replace("e+00", "")


LEAD = (
    "Squared principal angle distance of FedRep's representation to the true one after some rounds; test error is "
    f"half the sum of squares over 100 points, mean over sites, of which noise alone makes 5e-5. Local only: ridge "
    f"{short(RIDGE)} on the site's own points. Single head: one head for all, by gradient steps of {short(ETA_SINGLE)}."
)
PLATEAUS = (
    "A world is drawn once for each seed. Of seeds 0 to 79 seven (40, 44, 48, 59, 68, 70, 75) are still above the "
    "mark after 200 rounds, in a plain numpy loop: descent from a poor start can stay on a plateau. Success is a share "
    "of the seeds, not a mean."
)


def bench(
    folder: Path, seeds: Sequence[int], *, workers: int, talk: Console, setting: Setting | None = None
) -> Outcome:
    """Runs what is not finished in `folder` and says what all runs found."""
    setting = setting or Setting()
    ran = finished(planned(seeds, setting), folder / "runs", workers=workers, talk=talk)
    return outcome(setting, seeds, ran)


def planned(seeds: Sequence[int], setting: Setting) -> list[Run]:
    return [
        Run(
            name=f"{heads}-{seed}",
            title=f"{METHODS[heads]}, seed {seed}",
            work=figures_of,
            settings={"heads": heads, "seed": seed, **asdict(setting)},
            rounds=setting.rounds,
        )
        for seed in seeds
        for heads in HEADS
    ]


def figures_of(settings: Settings, tell: Tell) -> list[Figure]:
    """One federation; beside FedRep's, what its sites find alone."""
    given: dict[str, Any] = dict(settings)
    heads, seed = given.pop("heads"), given.pop("seed")
    setting = Setting(**given)
    with scratch() as folder:
        world, found = run(setting, seed, heads, folder, tell)
    shared: dict[str, Any] = {"setting": titled(setting), "method": METHODS[heads], "seed": seed}
    distances = [distance_squared(np.asarray(state[SHARED], np.float64), world.truth) for state in found.states]
    cost = found.platform_seconds / (setting.sites * setting.rounds)
    figures = [
        *(Figure(name="distance_squared", value=each, round=place, **shared) for place, each in enumerate(distances)),
        Figure(name="error", value=mean_error(found), **shared),
        Figure(name="platform_seconds", value=cost, **shared),
    ]
    if heads == "own":
        alone = [error(ridge(train), test) for train, test in zip(world.train, world.test, strict=True)]
        figures.append(Figure(name="error", value=float(np.mean(alone)), **{**shared, "method": LOCAL}))
    return figures


def titled(setting: Setting) -> str:
    return f"{setting.sites} sites, {setting.samples} samples, rate {setting.eta:g}"


def outcome(setting: Setting, seeds: Sequence[int], ran: Sequence[Ran]) -> Outcome:
    figures = tuple(figure for each in ran for figure in each.figures)
    cost = median(figure.value for figure in figures if figure.name == "platform_seconds")
    return Outcome.model_validate(
        {
            **circumstances(),
            "name": NAME,
            "title": "A shared linear representation",
            "lead": (
                f"{setting.sites} sites see {setting.samples} noisy points each of a line in {DIMENSIONS} dimensions; "
                "all lines lie in one plane. FedRep shares the plane and solves a head at every site: it has to find "
                "the plane, which no site can alone."
            ),
            "generated": "All points are drawn by a program.",
            "source": SOURCE,
            "seconds": sum(each.seconds for each in ran),
            "seeds": tuple(seeds),
            "marks": _marks(figures, setting),
            "sheets": (
                Sheet("Squared distance and test error", LEAD, _head(setting), _lines(figures, setting, seeds)),
            ),
            "notes": (
                PLATEAUS,
                f"Gates, grid, hub, ledger and registry took {1e3 * cost:.1f} ms for each site and round.",
            ),
            "figures": figures,
        }
    )


def _head(setting: Setting) -> tuple[str, ...]:
    return ("", *(f"dist² at {number}" for number in _shown(setting)), "error", LOCAL, METHODS["single"])


def _lines(figures: Sequence[Figure], setting: Setting, seeds: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    """A line for each seed, their median, and what is expected."""
    columns = [_distances(figures, setting, number) for number in _shown(setting)]
    columns += [_errors(figures, setting, method) for method in (METHODS["own"], LOCAL, METHODS["single"])]
    forms = [*(".1e" for _ in _shown(setting)), ".2e", ".3f", ".3f"]
    found = [(f"seed {seed}", [column[seed] for column in columns]) for seed in seeds]
    found.append(("median", [median(column.values()) for column in columns]))
    lines = [(name, *(f"{value:{form}}" for value, form in zip(values, forms, strict=True))) for name, values in found]
    return (*lines, ("expected", *EXPECTED)) if setting == Setting() else tuple(lines)


def _marks(figures: Sequence[Figure], setting: Setting) -> tuple[Mark, ...]:
    own = _errors(figures, setting, METHODS["own"])
    far = {
        method: min(value / own[seed] for seed, value in _errors(figures, setting, method).items())
        for method in (LOCAL, METHODS["single"])
    }
    last = _distances(figures, setting, setting.rounds).values()
    return (
        _reached("squared distance to the true plane", last, LARGEST_DISTANCE),
        _reached("test error of FedRep", own.values(), LARGEST_ERROR),
        *(_far_behind(method, ratio) for method, ratio in far.items()),
    )


def _distances(figures: Sequence[Figure], setting: Setting, number: int) -> dict[int, float]:
    """FedRep's after a round, by seed."""
    found = values_of(figures, "distance_squared", setting=titled(setting), method=METHODS["own"], round=number)
    return {seed: value for (seed, _), value in found.items()}


def _errors(figures: Sequence[Figure], setting: Setting, method: str) -> dict[int, float]:
    return {seed: v for (seed, _), v in values_of(figures, "error", setting=titled(setting), method=method).items()}


def _shown(setting: Setting) -> tuple[int, ...]:
    return (*(number for number in SHOWN if number < setting.rounds), setting.rounds)


def _reached(what: str, values: Any, largest: float) -> Mark:
    found = list(values)
    under, needed = sum(value < largest for value in found), math.ceil(ENOUGH * len(found))
    return Mark(
        f"{what} below {short(largest)}", f"{under} of {len(found)} seeds", f"at least {needed}", under >= needed
    )


def _far_behind(what: str, ratio: float) -> Mark:
    return Mark(f"{what} stays far behind", f"{ratio:,.0f} times the error", f"at least {FAR:g} times", ratio >= FAR)


def plots(outcome: Outcome) -> list[tuple[str, str, Markup]]:
    """The squared distance over the rounds: title, what is to be seen, drawing."""
    with mpl.rc_context(STYLE):
        drawing = Drawing(figsize=(8.2, 3.6))
        axes = drawing.add_axes((0.07, 0.15, 0.91, 0.81))
        for method, colour, dashes in ((METHODS["single"], SERIES[1], (5, 2.5)), (METHODS["own"], SERIES[0], ())):
            for seed in outcome.seeds:
                line = sorted(
                    (f.round, f.value)
                    for f in outcome.figures
                    if (f.name, f.method, f.seed) == ("distance_squared", method, seed)
                )
                kind: dict[str, Any] = {"dashes": dashes} if dashes else {}
                axes.plot(*zip(*line, strict=True), color=colour, linewidth=1.4, alpha=0.75, **kind)
        axes.axhline(LARGEST_DISTANCE, color=INK, linewidth=0.8, dashes=(1, 2))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: short(value))
        axes.set_xlabel("round")
        rounds = max(f.round for f in outcome.figures)
        axes.set_xlim(0, rounds)
        described = (
            f"Squared distance over {rounds} rounds on a logarithmic axis, FedRep falling to about 1e-6 to 1e-5."
        )
        return [
            (
                "Squared distance to the true representation",
                "Solid: FedRep, a line for each seed. Dashed: one head for all. Dotted: the pass mark.",
                svg(drawing, described, "distance"),
            )
        ]
