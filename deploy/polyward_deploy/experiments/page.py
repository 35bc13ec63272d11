"""What an experiment found -> one HTML page that needs nothing else, in the dress of the report's page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from polyward_deploy.experiments.outcome import Outcome
from polyward_deploy.pages import date, template, written


def write_page(folder: Path, outcome: Outcome, plots: Sequence[tuple[str, str, Markup]]) -> Path:
    """Writes `bench.html` into the folder and returns its path."""
    return written(folder, "bench.html", page(outcome, plots))


def page(outcome: Outcome, plots: Sequence[tuple[str, str, Markup]]) -> str:
    """The page's text; the same outcome gives the same text."""
    return template("bench.html.j2").render(outcome=outcome, started=date(outcome.started), plots=plots)
