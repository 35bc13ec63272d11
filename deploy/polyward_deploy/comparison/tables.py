"""A comparison as files for other programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

from polyward_deploy.comparison.averages import Line, site_lines, task_lines
from polyward_deploy.comparison.figures import Comparison
from polyward_deploy.comparison.ranks import Summary, summaries
from polyward_deploy.results import write_csv

FIGURE = ["seed", "site", "task", "metric", "value", "count"]
GAIN = ["gain", "gain_sd", "gain_low", "gain_high", "clear"]
SUMMARY = ["cells", "better", "worse", "clearly_better", "clearly_worse", "rank", "delta", "delta_sd"]
REST = ["worst_site", "worst_delta", "sites_gaining", "sites", "bytes_down", "bytes_up", "seconds"]


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """The JSON file with everything, `figures.csv` with every seed's, `table.csv` with means and gains, `summary.csv`
    with a line for each variation.

    In `table.csv` an empty site stands for the mean over sites.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = comparison.subject.one
    path = folder / f"{comparison.subject.file}.json"
    path.write_text(comparison.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_csv(folder / "figures.csv", [name, *FIGURE], map(astuple, comparison.figures))
    header = ["site", "task", "metric", "count", name, "seeds", "mean", "sd", *GAIN, "best"]
    lines = [*site_lines(comparison), *task_lines(comparison)]
    write_csv(folder / "table.csv", header, (row for line in lines for row in _rows(line)))
    write_csv(folder / "summary.csv", [name, *SUMMARY, *REST], map(_summary, summaries(comparison)))


def _rows(line: Line) -> Iterable[tuple[object, ...]]:
    for name, each in line.averages.items():
        gain = line.gains.get(name)
        gained = (
            (gain.mean, gain.sd, *(gain.interval or (None, None)), int(gain.clear)) if gain else (None,) * len(GAIN)
        )
        shared = (line.site, line.task, line.metric, line.count, name, each.seeds, each.mean, each.sd)
        yield (*shared, *gained, int(name in line.best))


def _summary(each: Summary) -> tuple[object, ...]:
    counted = (each.cells, each.better, each.worse, each.clearly_better, each.clearly_worse)
    delta = (each.delta.mean, each.delta.sd) if each.delta else (None, None)
    sites = (*(each.worst or (None, None)), each.sites_gaining, each.sites)
    return (each.name, *counted, each.rank, *delta, *sites, each.bytes_down, each.bytes_up, each.seconds)
