"""Figures of a study in the ledger: what sites measured, and which model each of them keeps.

Every function works within the transaction of `db`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from polyward_server.tables import kept, metrics
from polyward_shared.messages import AT_THE_END, Kept, Metric, Stage


def add(db: sa.Connection, study: str, number: int, figures: Iterable[tuple[str, Metric]]) -> None:
    """Figures of a round: site and metric."""
    rows = [
        {
            "study": study,
            "round": number,
            "site": site,
            "task": metric.task,
            "split": metric.split,
            "stage": metric.stage,
            "name": metric.name,
            "value": metric.value,
            "cases": metric.count,
            "low": metric.low,
            "high": metric.high,
        }
        for site, metric in figures
    ]
    if rows:
        db.execute(metrics.insert(), rows)


def replace(db: sa.Connection, study: str, number: int, site: str, figures: Iterable[Metric]) -> None:
    """Figures after the final tuning, if there are any, take the place of the same site's older ones."""
    if not (figures := list(figures)):
        return
    of_site = (metrics.c.study == study) & (metrics.c.site == site)
    db.execute(sa.delete(metrics).where(of_site & metrics.c.stage.in_(AT_THE_END)))
    add(db, study, number, [(site, metric) for metric in figures])


def read(db: sa.Connection, study: str) -> list[tuple[int, str, Metric]]:
    """Every figure: round, site, metric."""
    query = sa.select(metrics).where(metrics.c.study == study).order_by(metrics.c.round, metrics.c.site)
    return [
        (r.round, r.site, Metric(r.task, r.split, Stage(r.stage), r.name, r.value, r.cases, r.low, r.high))
        for r in db.execute(query)
    ]


def keep(db: sa.Connection, study: str, site: str, models: Mapping[str, Kept]) -> None:
    """Which model the site keeps for each task; a later word replaces an earlier one."""
    db.execute(sa.delete(kept).where((kept.c.study == study) & (kept.c.site == site)))
    if models:
        rows = [{"study": study, "site": site, "task": task, "model": model} for task, model in models.items()]
        db.execute(kept.insert(), rows)
