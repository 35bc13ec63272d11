"""What federation gave every site and task against training alone."""

from __future__ import annotations

from collections.abc import Iterator

from polyward_server.gains import gains_of
from polyward_server.views.picture import Picture
from polyward_shared.messages import Metric, Stage
from polyward_shared.reading import Frozen
from polyward_shared.tasks import arrow

PAIRS = ((Stage.FINAL, Stage.ALONE_FINAL), (Stage.TRAINED, Stage.ALONE))


class GainRow(Frozen):
    """One task of one site, over the same cases."""

    site: str
    task: str
    metric: str
    arrow: str
    when: str  # "end", or the round
    cases: int
    federated: float
    alone: float
    gain: float  # positive when federation is better
    kept: str  # the model that the site keeps, once it has said so

    @property
    def better(self) -> bool:
        return self.gain > 0


class Gains(Frozen):
    """One study, one seed: other patients may say otherwise."""

    asked: bool  # whether the study trains models alone at all
    better: int  # in how many of the rows federation is better
    largest: dict[str, float]  # by figure: the largest gain or loss, for drawing
    rows: tuple[GainRow, ...]


def read_gain(picture: Picture) -> Gains:
    """Reads it from the study's picture."""
    found = gains_of(picture.study, _figures(picture), picture.kept)
    rows = tuple(
        GainRow(
            site=each.site,
            task=each.federated.task,
            metric=each.federated.name,
            arrow=arrow(each.federated.name),
            when=each.when,
            cases=each.federated.count,
            federated=each.federated.value,
            alone=each.alone.value,
            gain=each.gain,
            kept=each.kept,
        )
        for each in sorted(found, key=lambda each: (each.federated.task, each.site))
    )
    largest: dict[str, float] = {}
    for row in rows:
        largest[row.metric] = max(largest.get(row.metric, 0.0), abs(row.gain))
    return Gains(asked=picture.study.personal.alone, better=sum(row.better for row in rows), largest=largest, rows=rows)


def _figures(picture: Picture) -> Iterator[tuple[int, str, Metric]]:
    """The first figure of every task, of both models, from the last time that both were measured on as many cases."""
    for task in picture.study.tasks:
        name = picture.primary(task)
        for pair in PAIRS:
            one, other = (picture.series(task, picture.split, stage, name) for stage in pair)
            for site in one.keys() & other.keys():
                rival = {point.round: point for point in other[site]}
                for own in reversed(one[site]):
                    if own.round in rival and rival[own.round].cases == own.cases:
                        for stage, point in zip(pair, (own, rival[own.round]), strict=True):
                            yield point.round, site, Metric(task, picture.split, stage, name, point.value, point.cases)
                        break
