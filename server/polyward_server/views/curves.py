"""A task's figures over the rounds, a line for each site. What was not measured is a gap, and nothing is averaged."""

from __future__ import annotations

from typing import Any

from polyward_server.views.picture import Picture, Point
from polyward_shared.messages import AT_THE_END, Kind, Stage, stages_of
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen
from polyward_shared.tasks import METRICS, arrow

DIGITS = 5  # of a drawn value
SHOWN = 8  # rounds in the table beside a chart; CSV has all


class FigureRow(Frozen):
    """One figure of one site."""

    site: str
    task: str
    metric: str
    split: str
    stage: str
    round: int
    value: float
    low: float | None
    high: float | None
    cases: int


class Line(Frozen):
    """One site: a value for each round of the curve, None where it was not measured."""

    site: str
    place: int  # of the site among the study's
    cases: int  # behind the last value
    values: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    counts: tuple[int | None, ...]


class Curve(Frozen):
    """One task's figure."""

    task: str
    kind: str
    metric: str
    arrow: str
    split: str
    stage: str
    rounds: tuple[int, ...]  # in which any site was measured
    lines: tuple[Line, ...]

    @property
    def chart(self) -> dict[str, Any]:
        """For the page's script."""
        return {
            "x": self.rounds,
            "y": [
                {"label": f"{line.site} (n {line.cases})", "place": line.place, "values": _short(line.values)}
                for line in self.lines
            ],
            "xLabel": "round",
            "yLabel": f"{self.metric} {self.arrow}",
        }

    @property
    def shown(self) -> range:
        """Places of the rounds that the table has room for."""
        return range(max(0, len(self.rounds) - SHOWN), len(self.rounds))


class Curves(Frozen):
    """The chosen figure, and what else may be chosen."""

    task: str  # empty: every task by its first figure
    metric: str
    split: str
    stage: str
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    splits: tuple[str, ...]
    stages: tuple[str, ...]
    curves: tuple[Curve, ...]

    @property
    def rows(self) -> list[FigureRow]:
        return [
            FigureRow(
                site=line.site,
                task=curve.task,
                metric=curve.metric,
                split=curve.split,
                stage=curve.stage,
                round=number,
                value=value,
                low=low,
                high=high,
                cases=cases or 0,
            )
            for curve in self.curves
            for line in curve.lines
            for number, value, low, high, cases in zip(
                curve.rounds, line.values, line.low, line.high, line.counts, strict=True
            )
            if value is not None
        ]


def read_curves(picture: Picture, *, task: str = "", metric: str = "", split: str = "", stage: str = "") -> Curves:
    """Without a choice: every task's first figure, on the test split, after own training. Raises `Problem` for a choice
    that the study does not have."""
    study = picture.study
    stages = sorted(
        stages_of(Kind.TRAIN, study.personal) | stages_of(Kind.FINISH, study.personal), key=list(Stage).index
    )
    tasks = tuple(sorted(study.tasks))
    wanted = (_chosen("task", task, tasks),) if task else tasks
    metrics = METRICS[study.tasks[task].kind] if task else ()
    split = _chosen("split", split or picture.split, study.evaluation.splits)
    place = Stage(_chosen("stage", stage or Stage.TRAINED, tuple(stages)))
    if metric:
        _chosen("metric", metric, metrics)
    return Curves(
        task=task,
        metric=metric or (metrics[0] if metrics else ""),
        split=split,
        stage=place,
        tasks=tasks,
        metrics=metrics,
        splits=study.evaluation.splits,
        stages=tuple(stages),
        curves=tuple(_curve(picture, each, metric or picture.primary(each), split, place) for each in wanted),
    )


def _chosen(what: str, found: str, possible: tuple[str, ...]) -> str:
    if found not in possible:
        known = ", ".join(possible) or "those of a chosen task"
        raise Problem(what, f"found {found[:40]!r}", expected=f"one of {known}")
    return found


def _curve(picture: Picture, task: str, metric: str, split: str, stage: Stage) -> Curve:
    series, places = picture.series(task, split, stage, metric), picture.places
    rounds = sorted({point.round for points in series.values() for point in points})
    if stage not in AT_THE_END and rounds:  # a round that nobody could measure, though the study asks for it, is a gap
        every = picture.study.evaluation.every
        rounds = sorted({*rounds, *(number for number in range(rounds[0], picture.last + 1) if number % every == 0)})
    return Curve(
        task=task,
        kind=picture.study.tasks[task].kind,
        metric=metric,
        arrow=arrow(metric),
        split=split,
        stage=stage,
        rounds=tuple(rounds),
        lines=tuple(
            _line(site, places.get(site, 0), {point.round: point for point in series[site]}, rounds)
            for site in sorted(series)
        ),
    )


def _line(site: str, place: int, points: dict[int, Point], rounds: list[int]) -> Line:
    at = [points.get(number) for number in rounds]
    return Line(
        site=site,
        place=place,
        cases=points[max(points)].cases,
        values=tuple(point.value if point else None for point in at),
        low=tuple(point.low if point else None for point in at),
        high=tuple(point.high if point else None for point in at),
        counts=tuple(point.cases if point else None for point in at),
    )


def _short(values: tuple[float | None, ...]) -> list[float | None]:
    return [None if value is None else float(f"{value:.{DIGITS}g}") for value in values]
