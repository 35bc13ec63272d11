"""A comparison -> one HTML page that needs nothing else, in the dress of the report's page."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

from polyward_deploy.comparison.averages import CLEAR, caveat, sentences, site_lines, task_lines
from polyward_deploy.comparison.drawings import courses, gains_plot, heat_maps, ranks_plot, seeds_plot
from polyward_deploy.comparison.figures import Comparison
from polyward_deploy.comparison.ranks import common, delta_tasks, ranks, summaries
from polyward_deploy.comparison.terminal import rank_sentence
from polyward_deploy.pages import date, template, written
from polyward_deploy.results import ABSENT


def write_page(folder: Path, comparison: Comparison) -> Path:
    """Writes the page into the folder and returns its path."""
    return written(folder, f"{comparison.subject.file}.html", page(comparison))


def page(comparison: Comparison) -> str:
    """The page's text; the same comparison gives the same text."""
    tasks, ranked, found = task_lines(comparison), ranks(comparison), summaries(comparison)
    return template("comparison.html.j2").render(
        comparison=comparison,
        subject=comparison.subject,
        study=comparison.study,
        started=date(comparison.started),
        absent=ABSENT,
        clear=CLEAR,
        reference=comparison.reference if comparison.reference in comparison.names else "",
        names=comparison.names,
        by_site=[(site, list(group)) for site, group in groupby(site_lines(comparison), lambda line: line.site)],
        tasks=tasks,
        summaries=found,
        cells=len(common(comparison)),
        delta_tasks=delta_tasks(comparison),
        heat_maps=list(heat_maps(comparison)),
        courses=list(courses(comparison)),
        ranked=ranked,
        rank_sentence=rank_sentence(ranked),
        ranks=ranks_plot(comparison, ranked) if ranked.enough else None,
        gains=[(line, gains_plot(comparison, line)) for line in tasks if line.gains],
        seeds=[(line, seeds_plot(comparison, line)) for line in tasks if line.averages],
        sentences=sentences(comparison),
        caveat=caveat(comparison),
        settings=json.dumps(comparison.study.model_dump(mode="json"), indent=2, ensure_ascii=False),
    )
