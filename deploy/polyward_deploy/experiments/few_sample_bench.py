"""`polyward-sim bench few-sample`: five methods, two sizes, three seeds; tables, points and pass marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator
from rich.console import Console

from polyward_deploy.experiments.digits import Digits, digest, pack_path, read_pack
from polyward_deploy.experiments.federate import scratch
from polyward_deploy.experiments.few_sample import METHODS, ROUNDS, TITLES, Method, run, weighted, worst
from polyward_deploy.experiments.glyphs import drawn_sites
from polyward_deploy.experiments.outcome import Figure, Mark, Outcome, Sheet, circumstances, values_of
from polyward_deploy.experiments.runs import Ran, Run, Settings, Tell, finished
from polyward_deploy.plots import INK, MARKERS, SERIES, STYLE, svg
from polyward_deploy.results import ABSENT, shown
from polyward_shared.messages import Stage

NAME, GENERATED_NAME = "few-sample", "few-sample-generated"
SEEDS = (0, 1, 2)
SAMPLES = (50, 200)
EXPECTED: dict[int, dict[Method, tuple[float, float]]] = {  # accuracy and worst site
    50: {
        "local": (0.9236, 0.778),
        "fedavg": (0.8458, 0.725),
        "fedper": (0.9363, 0.783),
        "fedrep": (0.9355, 0.796),
        "lg-fedavg": (0.9230, 0.775),
    },
    200: {
        "local": (0.9562, 0.876),
        "fedavg": (0.8792, 0.794),
        "fedper": (0.9603, 0.898),
        "fedrep": (0.9630, 0.900),
        "lg-fedavg": (0.9565, 0.877),
    },
}
LEAST_GAIN: dict[int, dict[Method, float]] = {50: {"fedper": 0.008, "fedrep": 0.008}, 200: {"fedrep": 0.004}}
FAR_BELOW = 0.05  # of accuracy: what is "far" on generated digits
SOURCE = (
    "Set-up: the few-sample setting of FedRep (Collins et al., arXiv 2102.07078) on the Dirichlet(0.1) split of MNIST "
    "over 20 sites that PFLlib (github.com/TsingZ0/PFLlib) ships. Expected figures: the same set-up in a plain numpy "
    "loop, three seeds. MNIST: Y. LeCun and C. Cortes, CC BY-SA 3.0."
)
SOURCE_GENERATED = (
    "Set-up as with MNIST (Collins et al., arXiv 2102.07078; the split of PFLlib) but for the images. There are no "
    "expected figures, only an order."
)
DRAWN = "A program drew all digits. They show an ordering of methods; the figures themselves mean nothing."


def bench(
    folder: Path,
    seeds: Sequence[int],
    *,
    generated: bool,
    workers: int,
    talk: Console,
    samples: Sequence[int] = SAMPLES,
    rounds: int = ROUNDS,
) -> Outcome:
    """Runs what is not finished in `folder` and says what all runs found. Raises `Problem` without the data."""
    runs = planned(seeds, samples, None if generated else pack_path(), rounds)
    return outcome(seeds, samples, finished(runs, folder / "runs", workers=workers, talk=talk), generated=generated)


def planned(seeds: Sequence[int], samples: Sequence[int], pack: Path | None, rounds: int) -> list[Run]:
    return [
        Run(
            name=f"{method}-{count}-{seed}",
            title=f"{TITLES[method]}, {count} samples, seed {seed}",
            work=figures_of,
            settings={
                "method": method,
                "samples": count,
                "seed": seed,
                "rounds": rounds,
                "pack": str(pack) if pack else None,
                "data": digest(sites_of(pack, count)),
            },
            rounds=rounds,
        )
        for count in samples
        for seed in seeds
        for method in METHODS
    ]


@lru_cache(maxsize=len(SAMPLES))
def sites_of(pack: Path | None, samples: int) -> Sequence[Digits]:
    """Of the pack, or drawn where there is none."""
    return read_pack(pack, samples) if pack else drawn_sites(samples)


def figures_of(settings: Settings, tell: Tell) -> list[Figure]:
    given: dict[str, Any] = dict(settings)
    method, samples, seed, pack = given["method"], given["samples"], given["seed"], given["pack"]
    digits = sites_of(Path(pack) if pack else None, samples)
    with scratch() as folder:
        scores, found = run(digits, method, seed, folder, tell, given["rounds"])
    shared: dict[str, Any] = {"setting": str(samples), "method": method, "seed": seed}
    figures = [Figure(name=f"accuracy_{score.stage}", value=score.value, site=score.site, **shared) for score in scores]
    for stage in (Stage.FINAL, Stage.TRAINED) if found else (Stage.FINAL,):
        figures.append(Figure(name=f"accuracy_{stage}", value=weighted(scores, stage), **shared))
        figures.append(Figure(name=f"worst_{stage}", value=worst(scores, stage), **shared))
    if found is not None:
        cost = found.platform_seconds / (len(digits) * given["rounds"])
        figures.append(Figure(name="platform_seconds", value=cost, **shared))
        figures.append(Figure(name="megabytes_up", value=found.bytes_up / 1e6, **shared))
    return figures


def outcome(seeds: Sequence[int], samples: Sequence[int], ran: Sequence[Ran], *, generated: bool) -> Outcome:
    figures = tuple(figure for each in ran for figure in each.figures)
    marks = [mark for count in samples for mark in (_order_marks if generated else _marks)(figures, count)]
    cost = [figure.value for figure in figures if figure.name == "platform_seconds"]
    return Outcome.model_validate(
        {
            **circumstances(),
            "name": GENERATED_NAME if generated else NAME,
            "title": "Few samples at each site" + (", generated digits" if generated else ""),
            "lead": (
                "Twenty sites with few digits of few classes each. A shared first layer (FedPer, FedRep) has to beat "
                "training alone; one network for all (FedAvg) suits nobody; a shared head (LG-FedAvg) changes nothing."
            ),
            "generated": DRAWN if generated else "",
            "source": SOURCE_GENERATED if generated else SOURCE,
            "seconds": sum(each.seconds for each in ran),
            "seeds": tuple(seeds),
            "marks": marks,
            "sheets": tuple(_sheet(figures, count, generated) for count in samples),
            "notes": (
                "Measured is the last state as sites receive it, with the head that each has: the convention that "
                "gives the expected figures. After own training stands beside it. No round was chosen by its figures.",
                f"Gates, grid, hub, ledger and registry took {1e3 * fmean(cost):.1f} ms for each site and round.",
            ),
            "figures": figures,
        }
    )


def _sheet(figures: Iterable[Figure], samples: int, generated: bool) -> Sheet:
    expected = {} if generated else EXPECTED.get(samples, {})
    lines = []
    for method in METHODS:
        final, low, trained = (
            list(values.values())
            for name in ("accuracy_final", "worst_final", "accuracy_trained")
            if (values := _by_seed(figures, name, samples, method)) is not None
        )
        told = expected.get(method)
        line = [TITLES[method], _spread(final), _spread(low, 3), _spread(trained)]
        lines.append(
            (*line, *((shown(told[0], 4), shown(told[1], 3)) if told else ((ABSENT, ABSENT) if expected else ())))
        )
    return Sheet(
        f"{samples} samples at each site",
        "Test accuracy after the last round, weighted by test cases, and of the worst site; mean ± standard deviation "
        "over the seeds.",
        (
            "method",
            "accuracy",
            "worst site",
            "after own training",
            *(("expected", "expected worst") if expected else ()),
        ),
        tuple(lines),
    )


def _by_seed(figures: Iterable[Figure], name: str, samples: int, method: Method) -> dict[int, float]:
    found = values_of(figures, name, setting=str(samples), method=method)
    return {seed: value for (seed, site), value in found.items() if not site}


def _spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean and deviation, one below the other where lines are narrow."""
    if not values:
        return ABSENT
    return shown(fmean(values), digits) + (f"\n± {shown(stdev(values), digits)}" if len(values) > 1 else "")


def _mean(figures: Iterable[Figure], name: str, samples: int, method: Method) -> float:
    return fmean(_by_seed(figures, name, samples, method).values())


def _marks(figures: Sequence[Figure], samples: int) -> list[Mark]:
    """Those of the reference: least gains over training alone, and FedRep's worst site."""
    local = _mean(figures, "accuracy_final", samples, "local")
    marks = []
    for method, least in LEAST_GAIN.get(samples, {}).items():
        gain = _mean(figures, "accuracy_final", samples, method) - local
        what = f"{samples} samples: {TITLES[method]} over Local"
        marks.append(Mark(what, shown(gain, 4, signed=True), f"at least {shown(least, 3, signed=True)}", gain >= least))
    low, alone = (_mean(figures, "worst_final", samples, method) for method in ("fedrep", "local"))
    what = f"{samples} samples: FedRep's worst site"
    return [*marks, Mark(what, shown(low, 3), f"not below Local's {shown(alone, 3)}", low >= alone)]


def _order_marks(figures: Sequence[Figure], samples: int) -> list[Mark]:
    """The order that MNIST shows: FedPer and FedRep not below Local, FedAvg far below it."""
    local = _mean(figures, "accuracy_final", samples, "local")
    gains = {m: _mean(figures, "accuracy_final", samples, m) - local for m in METHODS}
    marks = [
        Mark(f"{samples} samples: {TITLES[m]} over Local", shown(gains[m], 4, signed=True), "not below", gains[m] >= 0)
        for m in METHODS
        if m in ("fedper", "fedrep")
    ]
    found = shown(gains["fedavg"], 4, signed=True)
    wanted = f"at most {shown(-FAR_BELOW, 2, signed=True)}"
    return [*marks, Mark(f"{samples} samples: FedAvg over Local", found, wanted, gains["fedavg"] <= -FAR_BELOW)]


def plots(outcome: Outcome) -> list[tuple[str, str, Markup]]:
    """A panel for each size: title, what is to be seen, drawing."""
    return [
        (
            f"{samples} samples at each site",
            "A point for each seed: test accuracy weighted by test cases, and as rings the worst site. "
            "The axis does not begin at zero." + (" Lines: expected." if outcome.name == NAME else ""),
            _plot(outcome, int(samples)),
        )
        for samples in dict.fromkeys(figure.setting for figure in outcome.figures)
    ]


def _plot(outcome: Outcome, samples: int) -> Markup:
    with mpl.rc_context(STYLE):
        drawing = Drawing(figsize=(5.6, 3.0))
        axes = drawing.add_axes((0.1, 0.12, 0.88, 0.84))
        expected = EXPECTED.get(samples, {}) if outcome.name == NAME else {}
        for place, method in enumerate(METHODS):
            look: dict[str, Any] = {"color": SERIES[place], "marker": MARKERS[place], "linestyle": "", "markersize": 5}
            for name, face in (("accuracy_final", SERIES[place]), ("worst_final", "none")):
                values = list(_by_seed(outcome.figures, name, samples, method).values())
                across = [place + 0.09 * (number - (len(values) - 1) / 2) for number in range(len(values))]
                axes.plot(across, values, markerfacecolor=face, **look)
            for value in expected.get(method, ()):
                axes.hlines(value, place - 0.3, place + 0.3, color=INK, linewidth=0.9, alpha=0.7)
        axes.set_xticks(range(len(METHODS)), [TITLES[method] for method in METHODS])
        axes.yaxis.set_major_locator(MaxNLocator(6))
        described = ", ".join(
            f"{TITLES[m]} {shown(_mean(outcome.figures, 'accuracy_final', samples, m), 3)}" for m in METHODS
        )
        return svg(drawing, f"Accuracy with {samples} samples: {described}.", f"samples-{samples}")
