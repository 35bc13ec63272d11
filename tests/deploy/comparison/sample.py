"""Comparisons whose figures can be checked by hand."""

from __future__ import annotations

from polyward_deploy.comparison.figures import Comparison, Cost, Figure, Point
from polyward_deploy.comparison.plan import Subject
from polyward_shared.study import Image, Study
from polyward_shared.tasks import METRICS, Binary, Ordinal, Regression, Segmentation, Task

TASKS: dict[str, Task] = {
    "lesion": Binary(kind="binary"),
    "size": Regression(kind="regression"),
    "outline": Segmentation(kind="segmentation"),
    "grade": Ordinal(kind="ordinal", classes=("low", "high")),
}
STUDY = Study(id="toy", rounds=2, image=Image(size=(64, 64)), tasks=TASKS)
TOPOLOGY = Subject(one="topology", many="topologies", reference="parallel", file="topologies")
METHOD = Subject(one="method", many="methods", reference="local", file="comparison")

Seeds = list[dict[str, tuple[float, int]]]  # for each seed, value and cases by site


def comparison(figures: dict[str, dict[str, Seeds]], subject: Subject = METHOD) -> Comparison:
    """`figures`: by variation and task. In round 1 every figure is half of what it is in the end, in round 2 whole."""
    found = [
        Figure(name, seed, site, task, METRICS[TASKS[task].kind][0], value, count)
        for name, tasks in figures.items()
        for task, seeds in tasks.items()
        for seed, sites in enumerate(seeds)
        for site, (value, count) in sites.items()
    ]
    numbers = range(max(len(seeds) for tasks in figures.values() for seeds in tasks.values()))
    return Comparison(
        subject=subject,
        study=STUDY,
        described={name: f"what {name} is" for name in figures},
        seeds=tuple(numbers),
        started="2026-03-01T10:20:30+00:00",
        machine="Linux x86_64, 2 cores",
        generated=True,
        software={"torch": "2.13.0"},
        owners={
            task: tuple(sorted({each.site for each in found if each.task == task}))
            for task in TASKS
            if any(each.task == task for each in found)
        },
        figures=tuple(found),
        course=tuple(
            Point(each.variation, each.seed, number, each.site, each.task, share * each.value, each.count)
            for each in found
            for number, share in ((1, 0.5), (2, 1.0))
        ),
        costs=tuple(
            Cost(name, seed, 0 if name == "local" else 2_000_000, 0 if name == "local" else 1_000_000, 10.0)
            for name in figures
            for seed in numbers
        ),
    )


LESION = comparison(
    {
        "parallel": {"lesion": [{"a": (0.5, 10), "b": (0.7, 30)}, {"a": (0.7, 10), "b": (0.7, 30)}]},
        "cascaded": {"lesion": [{"a": (0.7, 10), "b": (0.9, 30)}, {"a": (0.9, 10), "b": (0.82, 30)}]},
    },
    TOPOLOGY,
)
