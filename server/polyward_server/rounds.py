"""A study from its first state to its last round, over any Flower `Grid`.

The ledger is the truth: whatever was killed, calling `run_study` again goes on after the last committed round. Sites
keep their finished update of a round, so a round that is asked again costs no second training.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping

import numpy as np

from polyward_server.aggregate import fold
from polyward_server.aggregate.weights import Labels, site_weights
from polyward_server.exchange import Answer
from polyward_server.federation import Federation, Shared, load
from polyward_server.joining import admit, begin
from polyward_server.ledger import Contribution, Event, Member, Round
from polyward_server.orders import Orders
from polyward_shared.codec import BYTES_PER_VALUE, decode, encode
from polyward_shared.messages import Kind, Metric, Report, Stage
from polyward_shared.norms import distance
from polyward_shared.problems import Code, Problem
from polyward_shared.schema import ENCODER, Schema
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS

RETRY_SECONDS = 2.0  # before a round without a quorum is asked again
IN_ROUNDS = frozenset({Stage.RECEIVED, Stage.TRAINED})
AT_THE_END = frozenset({Stage.FINAL})


def run_study(study: Study, federation: Federation) -> bool:
    """Runs the study from where it stands; True when it is finished, False when it was stopped.

    Raises whatever the grid raises when the way to the sites is lost; call again with a new grid. Raises `Problem` when
    a round had no quorum as many times as the federation tries.
    """
    digest, ledger = study.digest(), federation.ledger
    last = ledger.last_round(digest)
    missed = 0  # turns in succession without a quorum
    while last is None:
        if federation.stopped():
            return False
        last = begin(study, federation)
        if last is None:
            missed += 1
            _wait(study, federation, 0, missed, "no quorum for the first state")
    shared = load(federation.registry, last)
    held: dict[str, str] = {}
    missed = 0
    asked = dict.fromkeys(ledger.members(digest), time.monotonic())
    while last.number < study.rounds:
        if federation.stopped():
            return False
        admit(study, federation, shared, asked)
        done = _round(study, federation, shared, last, held)
        if done is None:
            missed += 1
            _wait(study, federation, last.number + 1, missed, "no quorum")
            continue
        (shared, last), missed = done, 0
    _finish(study, federation, shared, last, held)
    return True


def _wait(study: Study, federation: Federation, number: int, missed: int, why: str) -> None:
    """Notes that the quorum was missed, and waits for people to mend it; or gives up, with what sites refused."""
    digest = study.digest()
    federation.ledger.note(Event(digest, number, "", "waiting", why))
    if federation.tries is None or missed < federation.tries:
        time.sleep(RETRY_SECONDS)
        return
    events = (event for _, event in federation.ledger.events_after(0, digest))
    refused = {event.site: event.detail for event in events if event.round == number and event.what == "refused"}
    said = ", ".join(f"{site}: {code}" for site, code in sorted(refused.items())) or "nobody refused"
    raise Problem(
        f"{study.id}, round {number}",
        f"{why} in {missed} turns ({said})",
        expected=f"answers of {study.participation.quorum} sites",
        remedy="the sites' logs say more than these codes; mend it and run again, finished work is kept",
    )


def _round(
    study: Study, federation: Federation, shared: Shared, last: Round, held: dict[str, str]
) -> tuple[Shared, Round] | None:
    """One round, committed; None when no quorum answered."""
    began = time.monotonic()
    digest, number = study.digest(), last.number + 1
    members = federation.members(digest)
    schemas = {site: Schema.from_json(member.schema) for site, member in members.items()}
    weights = _weights(study, members, schemas)
    ask = Orders(study, federation, shared, schemas, held, Kind.TRAIN, number)
    folds = {group: fold.start(flat.size) for group, flat in shared.groups.items()}
    given: list[Contribution] = []
    figures: list[tuple[str, Metric]] = []

    def enough(_: set[str]) -> bool:
        return _quorum(study, {each.site for each in given}, members)  # an answer that was misfit does not count

    exchange = federation.exchange(digest, number, ask)
    for answer in exchange.answers(
        sorted(members),
        enough=enough,
        deadline_seconds=study.participation.deadline_seconds,
        rejoin_seconds=study.participation.rejoin_seconds,
    ):
        taken = _take(study, shared, schemas, weights, folds, answer, ask)
        if isinstance(taken, Code):
            exchange.refuse(answer.site, taken)
        elif taken is not None and answer.report is not None:
            given.append(taken)
            figures += [(answer.site, metric) for metric in answer.report.metrics]
            federation.ledger.note(Event(digest, number, answer.site, "reported", _headline(study, answer.report)))
    if not enough(set()):
        return None
    following = _next_state(study, shared, folds, ask.digests)
    schema, flat = following.whole()
    state = federation.registry.add(schema, flat, {"study": digest, "round": str(number), "parent": last.state})
    encoder = following.schemas[ENCODER].state_digest(following.groups[ENCODER])
    committed = Round(number, state, encoder, time.monotonic() - began)
    federation.ledger.commit_round(digest, committed, given, figures)
    return following, committed


def _take(
    study: Study,
    shared: Shared,
    schemas: Mapping[str, Schema],
    weights: Mapping[str, Mapping[str, int]],
    folds: Mapping[str, fold.Fold],
    answer: Answer,
    ask: Orders,
) -> Contribution | Code | None:
    """Checks a report and folds its update; the code of what is wrong with it; None for a refusal of the site."""
    report, schema = answer.report, schemas[answer.site]
    if report is None:
        return None
    if not ask.is_answered_by(report, answer.site) or report.codec != study.wire.codec:
        return Code.STATE_MISMATCH
    if len(report.payload) != schema.size * BYTES_PER_VALUE[report.codec]:
        return Code.EGRESS_SCHEMA
    if not _foreseen(study, report, IN_ROUNDS):
        return Code.EGRESS_METRIC
    base = shared.of(schema)
    update = decode(report.codec, report.payload, base)
    norm = distance(update, base)
    if not np.isfinite(norm):
        return Code.EGRESS_NOT_FINITE
    if norm > study.wire.update_norm or not fold.fits(update, base):
        return Code.EGRESS_NORM
    for group, where in schema.groups.items():
        fold.add(folds[group], update[where], base[where], weights[group][answer.site])
    return Contribution(
        site=answer.site,
        attempt=answer.attempt,
        weight=weights[ENCODER][answer.site],
        norm=norm,
        sha256=hashlib.sha256(report.payload).hexdigest(),
        bytes_up=len(report.payload),
        bytes_down=ask.bytes_down[answer.site],
        seconds=report.seconds,
    )


def _next_state(study: Study, shared: Shared, folds: dict[str, fold.Fold], digests: Mapping[str, str]) -> Shared:
    """The state after the round. Empties `folds`: at twice the size of the state they are the largest thing here."""
    following = Shared(shared.schemas, {})
    for group, base in shared.groups.items():
        result = fold.mean(folds.pop(group), base)
        if study.wire.codec == "bfloat16":  # what the sites will reconstruct is the truth, at the hub too
            change = encode("bfloat16", result, base)
            result = decode("bfloat16", change, base)
            following.changes[group] = change
        following.groups[group] = result
    following.before = dict(digests)
    return following


def _finish(study: Study, federation: Federation, shared: Shared, last: Round, held: dict[str, str]) -> None:
    """Every site tunes its branches on the last state and measures; nothing is aggregated."""
    digest = study.digest()
    members = federation.members(digest)
    schemas = {site: Schema.from_json(member.schema) for site, member in members.items()}
    ask = Orders(study, federation, shared, schemas, held, Kind.FINISH, last.number)
    exchange = federation.exchange(digest, last.number, ask)

    def enough(answered: set[str]) -> bool:
        return _quorum(study, answered, members)

    for answer in exchange.answers(
        sorted(members),
        enough=enough,
        deadline_seconds=study.participation.deadline_seconds,
        rejoin_seconds=study.participation.rejoin_seconds,
    ):
        report = answer.report
        if report is None:
            continue
        if not ask.is_answered_by(report, answer.site):
            exchange.refuse(answer.site, Code.STATE_MISMATCH)
        elif _foreseen(study, report, AT_THE_END):
            federation.ledger.add_metrics(digest, last.number, [(answer.site, metric) for metric in report.metrics])
            federation.ledger.note(Event(digest, last.number, answer.site, "finished", _headline(study, report)))
        else:
            exchange.refuse(answer.site, Code.EGRESS_METRIC)


def _weights(study: Study, members: Mapping[str, Member], schemas: Mapping[str, Schema]) -> dict[str, dict[str, int]]:
    labels = {site: Labels(member.samples, member.counts) for site, member in members.items()}
    groups = sorted({group for schema in schemas.values() for group in schema.groups})
    return {
        group: site_weights(study, group, {s: labels[s] for s in labels if group in schemas[s].groups})
        for group in groups
    }


def _quorum(study: Study, answered: set[str], members: Mapping[str, Member]) -> bool:
    """Enough sites, and enough owners of every task for which the study asks so."""
    owners = Counter(task for site in answered for task in members[site].counts)
    rule = study.participation
    return len(answered) >= rule.quorum and all(owners[task] >= n for task, n in rule.task_quorum.items())


def _foreseen(study: Study, report: Report, stages: frozenset[Stage]) -> bool:
    return all(
        metric.task in study.tasks
        and metric.split in study.evaluation.splits
        and metric.stage in stages
        and metric.name in METRICS[study.tasks[metric.task].kind]
        and (metric.low is None or study.evaluation.resamples > 0)
        for metric in report.metrics
    )


def _headline(study: Study, report: Report) -> str:
    """The first metric of each task on the test split, for people who watch."""
    shown: dict[str, str] = {}
    for metric in report.metrics:
        if metric.split == "test" and metric.name == METRICS[study.tasks[metric.task].kind][0]:
            ends = "" if metric.low is None else f" [{metric.low:.3f}, {metric.high:.3f}]"
            shown[metric.task] = f"{metric.task} {metric.name} {metric.value:.3f}{ends} (n={metric.count})"
    return ", ".join(shown[task] for task in sorted(shown))
