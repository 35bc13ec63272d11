"""The updates of one round: each checked, then added to a sum and forgotten, or kept beside the others on the disk.

Which of the two, the rule decides (`polyward_shared.aggregation`). A round whose usual length of an update is not known
yet, because none came before it, is kept too: only then can a site that is far too loud be heard as one among others.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyward_server.aggregate import clip, fold, sketch
from polyward_server.aggregate.stack import Stack
from polyward_server.exchange import Answer
from polyward_server.orders import Orders
from polyward_server.records import Contribution
from polyward_server.shared_state import Shared, group_of_key
from polyward_shared.codec import BYTES_PER_VALUE, decode
from polyward_shared.messages import Metric, Report, Stage, models_of
from polyward_shared.norms import distance
from polyward_shared.problems import Code
from polyward_shared.schema import ENCODER, PRECISION, STATISTICS, Flat, Schema
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS

NOT_TRAINED = frozenset({PRECISION, STATISTICS})
LARGEST_MOMENT = 1e12  # of what norms have seen; squares among them
Weights = Mapping[str, Mapping[str, int]]  # place -> site -> weight


def place_of(study: Study, key: str) -> str:
    """Under which name updates of a key come together; where sites have several encoders, all of them do."""
    return key if study.aggregation.traits.encoders == "one" else group_of_key(key)


class Gathering:
    """`weights` and `tasks` are those of the sites that were asked, `usual` the usual length of an update in the round
    before."""

    def __init__(
        self,
        study: Study,
        shared: Shared,
        schemas: Mapping[str, Schema],
        weights: Weights,
        tasks: Mapping[str, Collection[str]],
        usual: float | None,
        folder: Path,
    ) -> None:
        self.study, self.shared, self.schemas, self.weights, self.tasks = study, shared, schemas, weights, tasks
        rule = study.aggregation
        self.streams = rule.traits.streams and (usual is not None or not rule.clip)
        self.folder, self._usual = folder, usual
        self.folds: dict[str, fold.Fold] = {}
        self.stacks: dict[str, Stack] = {}
        self.sketches: dict[str, NDArray[np.float64]] = {}  # of the encoder's change, by site
        self.held: dict[str, str] = {}  # the key of the encoder that each site began with
        self.given: dict[str, Contribution] = {}
        self.figures: list[tuple[str, Metric]] = []
        shutil.rmtree(folder, ignore_errors=True)  # of a round that was interrupted

    def take(self, answer: Answer, ask: Orders, stages: frozenset[Stage]) -> Code | None:
        """Checks a report and keeps its update; the code of what is wrong with it, or None."""
        report, schema = answer.report, self.schemas[answer.site]
        if report is None:
            return None
        if not ask.is_answered_by(report, answer.site) or report.codec != self.study.wire.codec:
            return Code.STATE_MISMATCH
        if len(report.payload) != schema.size * BYTES_PER_VALUE[report.codec]:
            return Code.EGRESS_SCHEMA
        if not is_foreseen(self.study, report, stages, self.tasks[answer.site]):
            return Code.EGRESS_METRIC
        base = ask.base(answer.site)
        update = decode(report.codec, report.payload, base)
        norm = length(schema, update, base)
        if not np.isfinite(norm):
            return Code.EGRESS_NOT_FINITE
        if norm > self.study.wire.update_norm or not self._fits(schema, update, base):
            return Code.EGRESS_NORM
        scale = clip.scale(norm, self._usual, self.study.aggregation.clip) if self.streams else 1.0
        self._keep(answer.site, ask, update, base, scale)
        self.given[answer.site] = Contribution(
            site=answer.site,
            attempt=answer.attempt,
            weight=self.weights[place_of(self.study, self.held[answer.site])][answer.site],
            norm=norm,
            sha256=hashlib.sha256(report.payload).hexdigest(),
            bytes_up=len(report.payload),
            bytes_down=ask.bytes_down[answer.site],
            seconds=report.seconds,
            steps=report.steps,
            scale=scale,
        )
        self.figures += [(answer.site, metric) for metric in report.metrics]
        return None

    def shorten(self) -> None:
        """Cuts updates that were kept to a usual length, now that all lengths are known."""
        if self.streams:
            return
        usual = clip.usual([each.norm for each in self.given.values()])
        for site, each in self.given.items():
            scale = clip.scale(each.norm, usual, self.study.aggregation.clip)
            if scale < 1:
                self.given[site] = replace(each, scale=scale)
                for key, stack in self.stacks.items():
                    if site in stack.sites and group_of_key(key) not in NOT_TRAINED:
                        stack.shorten(site, scale)

    def close(self) -> None:
        """Removes what was kept on the disk."""
        for stack in self.stacks.values():
            stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _fits(self, schema: Schema, update: Flat, base: Flat) -> bool:
        """Whether every value can be summed; false for NaN as well."""
        for group, where in schema.groups.items():
            values = update[where]
            if group == PRECISION:  # their mean is 1, so none is larger than their number
                fits = bool(((values >= 0) & (values <= values.size)).all())
            elif group == STATISTICS:
                fits = bool((np.abs(values) <= LARGEST_MOMENT).all())
            else:
                fits = fold.fits(values, base[where])
            if not fits:
                return False
        return True

    def _keep(self, site: str, ask: Orders, update: Flat, base: Flat, scale: float) -> None:
        for (group, where), key in zip(self.schemas[site].groups.items(), ask.keys[site], strict=True):
            new, old, place = update[where], base[where], place_of(self.study, key)
            if group == ENCODER:
                self.held[site] = key
            shortened = 1.0 if group in NOT_TRAINED else scale
            if self.streams and group != STATISTICS:  # squares are too large for a sum in whole numbers
                running = self.folds.get(place)
                if running is None:
                    running = self.folds[place] = fold.start(new.size)
                fold.add(running, new, old, self.weights[place][site], shortened)
                if group == ENCODER:
                    self.sketches[site] = shortened * sketch.sketch(new, old)
            else:
                stack = self.stacks.get(place)
                if stack is None:
                    stack = self.stacks[place] = Stack(self.folder / str(len(self.stacks)), new.size)
                stack.add(site, new, np.zeros_like(old) if group == PRECISION else old, shortened)


def length(schema: Schema, update: Flat, base: Flat) -> float:
    """The L2 norm of the change of what is trained: neither how sure a site is, nor what its norms have seen."""
    trained = [where for group, where in schema.groups.items() if group not in NOT_TRAINED]
    return math.hypot(*(distance(update[where], base[where]) for where in trained))


def is_foreseen(study: Study, report: Report, stages: frozenset[Stage], tasks: Collection[str]) -> bool:
    """Whether every figure, and every word on a model that is kept, is one that the study asks of a site with these
    tasks at these stages."""
    words = report.kept.keys() <= set(tasks) and set(report.kept.values()) <= set(models_of(study.personal))
    return words and all(
        metric.task in study.tasks
        and metric.task in tasks
        and metric.split in study.evaluation.splits
        and metric.stage in stages
        and metric.name in METRICS[study.tasks[metric.task].kind]
        and (metric.low is None or study.evaluation.resamples > 0)
        for metric in report.metrics
    )
