"""`polyward-sim bench faults`: seven faults of one site against every rule; what the others lose, and who is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from rich.console import Console

from polyward_deploy.experiments.faults import (
    CULPRIT,
    FAULTS,
    FINDING,
    NUMBER,
    ROUNDS,
    Fault,
    aftermath,
    named_sites,
    study_of,
    write_sites,
)
from polyward_deploy.experiments.federate import scratch
from polyward_deploy.experiments.outcome import Figure, Mark, Outcome, Sheet, circumstances
from polyward_deploy.experiments.runs import Ran, Run, Settings, Tell, finished
from polyward_deploy.results import ABSENT, shown

NAME = "faults"
SEEDS = (0,)
DEFAULT = "mean"
UNIFORM = {"weighting": "uniform"}
RULES: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "mean, not cut": {"clip": 0.0},
    "median": {"rule": "median", **UNIFORM},
    "trimmed mean": {"rule": "trimmed_mean", **UNIFORM},
    "krum": {"rule": "krum", **UNIFORM},
    "cagrad": {"rule": "cagrad", **UNIFORM},
}
BRANCHES = {"site": tuple(RULES), "task": (DEFAULT, "median", "krum")}
ATTACK: Fault = "backward"  # no mistake, but meant: the table shows it, the default has no mark for it
LARGEST_LOSS = {NUMBER: 0.15, FINDING: 0.05}  # that the default may cost the others: of their error; of AUROC
LEAD = (
    "Six hospitals with the same two tasks, of which one is faulty. The default has to keep the other five close to "
    "what they reach without the fault, and to name the culprit."
)
SOURCE = (
    "Faults after section 6.2 and the robust aggregation literature (Blanchard et al. 2017; Yin et al., arXiv "
    "1803.01498; Sun et al., arXiv 1911.07963). There are no expected figures."
)
DRAWN = "A program drew all images. They show what rules do; the figures themselves mean nothing."


def bench(folder: Path, seeds: Sequence[int], *, workers: int, talk: Console) -> Outcome:
    """Runs what is not finished in `folder` and says what all runs found."""
    ran = finished(planned(seeds), folder / "runs", workers=workers, talk=talk)
    return outcome(seeds, ran)


def planned(seeds: Sequence[int]) -> list[Run]:
    return [
        Run(
            name=f"{branches}-{rule.replace(' ', '-').replace(',', '')}-{fault}-{seed}",
            title=f"{rule}, branches by {branches}: {fault}, seed {seed}",
            work=figures_of,
            settings={"rule": rule, "branches": branches, "fault": fault, "seed": seed, "options": RULES[rule]},
            rounds=ROUNDS,
        )
        for seed in seeds
        for branches in BRANCHES
        for rule in BRANCHES[branches]
        for fault in FAULTS
    ]


def figures_of(settings: Settings, tell: Tell) -> list[Figure]:
    given: dict[str, Any] = dict(settings)
    fault, branches = cast(Fault, given["fault"]), given["branches"]
    with scratch() as folder:
        files = write_sites(folder / "hospitals", fault, given["seed"])
        study = study_of(given["options"], branches, given["seed"])
        found = aftermath(study, files, fault, folder / "run", tell)
    shared: dict[str, Any] = {"setting": f"{branches}/{fault}", "method": given["rule"], "seed": given["seed"]}
    figures = [
        Figure(name=metric.name, value=metric.value, site=site, **shared)
        for (site, _), metric in sorted(found.figures.items())
    ]
    return figures + [
        Figure(name="named", value=float(len(rounds)), site=site, **shared)
        for site, rounds in sorted(named_sites(found).items())
    ]


def outcome(seeds: Sequence[int], ran: Sequence[Ran]) -> Outcome:
    figures = tuple(figure for each in ran for figure in each.figures)
    return Outcome.model_validate(
        {
            **circumstances(),
            "name": NAME,
            "title": "One faulty site",
            "lead": LEAD,
            "generated": DRAWN,
            "source": SOURCE,
            "seconds": sum(each.seconds for each in ran),
            "seeds": tuple(seeds),
            "marks": _marks(figures),
            "sheets": tuple(_sheet(figures, branches) for branches in BRANCHES),
            "notes": (
                "Faults: " + "; ".join(f"{fault}: {what}" for fault, what in FAULTS.items() if fault != "none") + ".",
                "Each cell: error of the number (mean over the honest sites, against the same rule without a fault), "
                "AUROC of the finding (difference), and in how many of the rounds something pointed at the culprit; "
                "after a cross, at honest sites, all together.",
                "Labels ten times too large do nothing to the others, because every site standardises its targets.",
                f"A site that means harm ({ATTACK}) is named, but the default does not stop it: robust rules do.",
            ),
            "figures": figures,
        }
    )


def _sheet(figures: Sequence[Figure], branches: str) -> Sheet:
    lines = []
    for rule in BRANCHES[branches]:
        cells = [_cell(figures, branches, rule, fault) for fault in FAULTS]
        lines.append((rule, *cells))
    scope = "every site keeps its branches" if branches == "site" else "branches shared by all owners of a task"
    lead = (
        f"{scope[0].upper()}{scope[1:]}: the plainest form of averaging."
        if branches == "task"
        else f"The default: {scope}."
    )
    return Sheet(f"Branches by {branches}", lead, ("rule", *FAULTS), tuple(lines))


def _cell(figures: Sequence[Figure], branches: str, rule: str, fault: Fault) -> str:
    error, score = (_honest(figures, branches, rule, fault, name) for name in ("mae", "auroc"))
    if error is None or score is None:
        return ABSENT
    if fault == "none":
        return f"{shown(error, 2)}, {shown(score)}{_named(figures, branches, rule, fault)}"
    before = tuple(_honest(figures, branches, rule, "none", name) for name in ("mae", "auroc"))
    if before[0] is None or before[1] is None:
        return ABSENT
    change = f"{100 * (error / before[0] - 1):+.0f} %".replace("-", "\N{MINUS SIGN}")
    return f"{change}, {shown(score - before[1], 2, signed=True)}{_named(figures, branches, rule, fault)}"


def _named(figures: Sequence[Figure], branches: str, rule: str, fault: Fault) -> str:
    found = _pointed(figures, branches, rule, fault)
    culprit = found.pop(CULPRIT, 0.0) if fault != "none" else 0.0
    others = sum(found.values())
    return (f"; {culprit:.0f}" if fault != "none" else "") + (f" \N{MULTIPLICATION SIGN}{others:.0f}" if others else "")


def _pointed(figures: Sequence[Figure], branches: str, rule: str, fault: Fault) -> dict[str, float]:
    """By site: in how many rounds something pointed at it, mean over seeds."""
    seeds = {figure.seed for figure in figures}
    found: dict[str, float] = {}
    for figure in figures:
        if (figure.name, figure.setting, figure.method) == ("named", f"{branches}/{fault}", rule):
            found[figure.site] = found.get(figure.site, 0.0) + figure.value / len(seeds)
    return found


def _honest(figures: Sequence[Figure], branches: str, rule: str, fault: Fault, name: str) -> float | None:
    """The mean of a figure over honest sites and seeds."""
    wanted = (name, f"{branches}/{fault}", rule)
    values = [f.value for f in figures if (f.name, f.setting, f.method) == wanted and f.site != CULPRIT]
    return fmean(values) if values else None


def _marks(figures: Sequence[Figure]) -> list[Mark]:
    marks = []
    before = {name: _honest(figures, "site", DEFAULT, "none", name) for name in ("mae", "auroc")}
    for fault in FAULTS:
        now = {name: _honest(figures, "site", DEFAULT, fault, name) for name in ("mae", "auroc")}
        if fault in {"none", ATTACK} or None in now.values() or None in before.values():
            continue
        worse, lower = _losses(cast(Mapping[str, float], before), cast(Mapping[str, float], now))
        kept = worse <= LARGEST_LOSS[NUMBER] and lower <= LARGEST_LOSS[FINDING]
        rounds = _pointed(figures, "site", DEFAULT, fault).get(CULPRIT, 0.0)
        found = f"error {100 * worse:+.0f} %, AUROC {-lower:+.3f}".replace("-", "\N{MINUS SIGN}")
        wanted = f"error at most +{100 * LARGEST_LOSS[NUMBER]:.0f} %, AUROC at most {LARGEST_LOSS[FINDING]} lower"
        marks.append(Mark(f"{fault}: the default keeps the others' results", found, wanted, kept))
        marks.append(Mark(f"{fault}: the culprit is named", f"{rounds:.0f} rounds", "at least 1", rounds > 0))
    return marks


def _losses(before: Mapping[str, float], now: Mapping[str, float]) -> tuple[float, float]:
    """How much larger the error is, of itself; how much lower the AUROC."""
    return now["mae"] / before["mae"] - 1, before["auroc"] - now["auroc"]
