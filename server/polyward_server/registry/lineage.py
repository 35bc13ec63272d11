"""Where a state comes from: its round, its sites, and its ancestry back to a seed or an imported file."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import AwareDatetime

from polyward_server.ledger import Ledger
from polyward_server.registry.catalogue import Brought, Catalogue, Made
from polyward_shared.messages import OF_THE_FEDERATED_MODEL, Metric, Stage
from polyward_shared.reading import Frozen, validated
from polyward_shared.releases import Descent
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS

SEED = "seed"


class Share(Frozen):
    """A site's part in a round."""

    site: str
    weight: int  # as the study's weighting counts it
    part: float  # of the sum of weights
    share: float | None  # of the encoder's step; None where the rule makes no common step


class Measured(Frozen):
    """A figure of one site."""

    round: int
    site: str
    task: str
    split: str
    stage: str
    metric: str
    primary: bool  # the first figure of its task, on the split that counts most
    value: float
    cases: int
    low: float | None
    high: float | None


class Lineage(Frozen):
    """All that the ledger tells of the making of a state."""

    state: str
    encoder: str
    study: str  # digest; empty for an import
    study_id: str
    source: str  # the imported file's name
    round: int
    at: AwareDatetime
    rule: str
    parents: tuple[str, ...]  # states
    shares: tuple[Share, ...]
    figures: tuple[Measured, ...]
    ancestry: tuple[Descent, ...]  # itself first


def lineage(ledger: Ledger, catalogue: Catalogue, state: str) -> Lineage:
    """The lineage of a state that the catalogue knows."""
    origin = catalogue.origins[state]
    ancestry = tuple(descents(ledger, catalogue, origin))
    if isinstance(origin, Brought):
        return Lineage(
            state=state,
            encoder=origin.encoder,
            study="",
            study_id="",
            source=origin.source,
            round=0,
            at=origin.at,
            rule="",
            parents=(),
            shares=(),
            figures=(),
            ancestry=ancestry,
        )
    given = ledger.contributions(origin.study).get(origin.round, [])
    total = sum(each.weight for each in given)
    study = ledger.study(origin.study)
    return Lineage(
        state=state,
        encoder=origin.encoder,
        study=origin.study,
        study_id=origin.study_id,
        source="",
        round=origin.round,
        at=origin.at,
        rule=study.aggregation.rule,
        parents=tuple(each.state for each in [_parent(ledger, catalogue, origin)] if each),
        shares=tuple(
            Share(site=e.site, weight=e.weight, part=e.weight / total if total else 0.0, share=e.share) for e in given
        ),
        figures=tuple(_measured(study, number, site, each) for number, site, each in figures_of(ledger, origin)),
        ancestry=ancestry,
    )


def figures_of(ledger: Ledger, origin: Made) -> list[tuple[int, str, Metric]]:
    """What sites measured on the federated model of a round's state.

    Those of its own round, and those of the next one before anybody trained: only these are of this very encoder. What
    was measured in its own round as received is of the encoder before, and left out.
    """
    return [
        (number, site, each)
        for number, site, each in ledger.metrics(origin.study)
        if each.stage in OF_THE_FEDERATED_MODEL
        and number == origin.round + (each.stage is Stage.RECEIVED)
        and math.isfinite(each.value)
    ]


def descents(ledger: Ledger, catalogue: Catalogue, origin: Made | Brought) -> Iterator[Descent]:
    """The ancestry, itself first, one entry for the rounds of each study."""
    seen: set[str] = set()  # a ledger that was tampered with may lead in a circle
    while isinstance(origin, Made) and origin.study not in seen:
        seen.add(origin.study)
        study = ledger.study(origin.study)
        yield _stretch(ledger, study, origin)
        if study.encoder.start == SEED:
            yield Descent(kind="seed", name=str(study.seed))
            return
        before = catalogue.start_of(origin.study, study.encoder.start)
        if before is None:
            yield Descent(kind="unknown", digest=study.encoder.start)
            return
        origin = before
    if isinstance(origin, Brought):
        hub = str(origin.lineage.get("hub", ""))
        yield Descent(kind="import", name=origin.source, digest=origin.state, at=origin.at, hub=hub)
        for each in origin.lineage.get("ancestry", ()):
            told = validated(each, Descent, where=f"the import {origin.state[:12]} in the ledger")
            yield told.model_copy(update={"hub": told.hub or hub})


def split_of(study: Study) -> str:
    """The split whose figures count: that for the end, where there is one."""
    return "test" if "test" in study.evaluation.splits else study.evaluation.splits[0]


def sites_of(ledger: Ledger, origin: Made) -> list[str]:
    """Whose updates are in a state, in its own study."""
    given = ledger.contributions(origin.study)
    return sorted({each.site for number, all_given in given.items() if number <= origin.round for each in all_given})


def _parent(ledger: Ledger, catalogue: Catalogue, origin: Made) -> Made | Brought | None:
    if origin.round > 0:
        return catalogue.round_of(origin.study, origin.round - 1)
    start = ledger.study(origin.study).encoder.start
    return None if start == SEED else catalogue.start_of(origin.study, start)


def _stretch(ledger: Ledger, study: Study, origin: Made) -> Descent:
    return Descent(
        kind="study",
        name=study.id,
        digest=origin.study,
        round=origin.round,
        rule=study.aggregation.rule,
        sites=len(sites_of(ledger, origin)),
        at=origin.at,
    )


def _measured(study: Study, number: int, site: str, metric: Metric) -> Measured:
    first = METRICS[study.tasks[metric.task].kind][0]
    return Measured(
        round=number,
        site=site,
        task=metric.task,
        split=metric.split,
        stage=metric.stage,
        metric=metric.name,
        primary=(metric.name, metric.split) == (first, split_of(study)),
        value=metric.value,
        cases=metric.count,
        low=metric.low,
        high=metric.high,
    )
