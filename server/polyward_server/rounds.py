"""A study from its first state to its last round, over any Flower `Grid`.

The ledger is the truth: whatever was killed, calling `run_study` again goes on after the last committed round. Sites
keep their finished update of a round, so a round that is asked again costs no second training.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from polyward_server.aggregate import fold
from polyward_server.aggregate.weights import Labels, site_weights
from polyward_server.exchange import Answer, Exchange, Presence
from polyward_server.ledger import Contribution, Event, Ledger, Member, Round
from polyward_server.registry import Registry
from polyward_shared.codec import BYTES_PER_VALUE, Codec, decode, encode
from polyward_shared.messages import Kind, Metric, Order, Report, Stage
from polyward_shared.problems import Code, Problem
from polyward_shared.schema import BRANCHES, ENCODER, Flat, Schema
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS
from polyward_shared.wire import order_content, payload_record

log = logging.getLogger(__name__)

JOIN_SECONDS = 60.0  # a site that is here answers a join within seconds; a first reading of many images takes longer
RETRY_SECONDS = 2.0  # before a round without a quorum is asked again
IN_ROUNDS = frozenset({Stage.RECEIVED, Stage.TRAINED})
AT_THE_END = frozenset({Stage.FINAL})
LIFETIME = 12 * 3600.0  # of a message in Flower's store; our own deadline is the study's


@dataclass(frozen=True, slots=True)
class Federation:
    """What a study needs to run: the way to the sites, the durable state, and who is who."""

    grid: Grid
    presence: Callable[[], Mapping[str, Presence]]
    nodes: Callable[[], Mapping[str, int]]  # site -> Flower's node id; only these sites are asked
    ledger: Ledger
    registry: Registry
    stopped: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class Shared:
    """The state that the federation holds: one vector for each group of arrays.

    `changes` are the last round's changes as they may be sent to a site that holds the state `before` them.
    """

    schemas: dict[str, Schema]
    groups: dict[str, Flat]
    changes: dict[str, bytes] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)  # digest of a site's schema -> digest of its state

    def of(self, schema: Schema) -> Flat:
        """The part [n] that a site with this schema holds."""
        parts = [self.groups[name] for name in schema.groups]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def whole(self) -> tuple[Schema, Flat]:
        names = sorted(self.groups, key=lambda name: (name != ENCODER, name))
        schema = Schema(tuple(spec for name in names for spec in self.schemas[name].arrays))
        return schema, self.of(schema)


def run_study(study: Study, federation: Federation) -> bool:
    """Runs the study from where it stands; True when it is finished, False when it was stopped.

    Raises whatever the grid raises when the way to the sites is lost; call again with a new grid.
    """
    digest = study.digest()
    ledger = federation.ledger
    last = ledger.last_round(digest)
    if last is None:
        last = _begin(study, federation)
        if last is None:
            return False
    shared = _load(federation, last)
    held: dict[str, str] = {}  # site -> digest of the state that it surely holds, for sending changes
    while last.number < study.rounds:
        if federation.stopped():
            return False
        _admit(study, federation, shared)
        done = _round(study, federation, shared, last, held)
        if done is None:
            ledger.note(Event(digest, last.number + 1, "", "waiting", "no quorum"))
            time.sleep(RETRY_SECONDS)
            continue
        shared, last = done
    _finish(study, federation, shared, last, held)
    return True


def _begin(study: Study, federation: Federation) -> Round | None:
    """Round 0: who takes part, and the first state that a quorum agrees on (or the registered one)."""
    digest = study.digest()
    while not federation.stopped():
        reports = _join(study, federation, sorted(federation.nodes()), wait_for_all=True)
        first = _first_state(study, federation, reports)
        if first is not None:
            shared, disagree = first
            for site, report in reports.items():
                _welcome(federation, study, site, report, agrees=site not in disagree)
            schema, flat = shared.whole()
            state = federation.registry.add(schema, flat, {"study": digest, "round": "0"})
            begun = Round(0, state, shared.schemas[ENCODER].state_digest(shared.groups[ENCODER]), 0.0)
            federation.ledger.commit_round(digest, begun)
            return begun
        federation.ledger.note(Event(digest, 0, "", "waiting", "no quorum for the first state"))
        time.sleep(RETRY_SECONDS)
    return None


def _join(
    study: Study, federation: Federation, sites: list[str], *, wait_for_all: bool, want_state: bool = False
) -> dict[str, Report]:
    digest = study.digest()

    def ask(site: str, attempt: int) -> Message:
        order = Order(kind=Kind.JOIN, study=digest, attempt=attempt, want_state=want_state)
        return _message(federation, site, order, payload_record(b""))

    def enough(answered: set[str]) -> bool:
        return not wait_for_all or len(answered) >= study.participation.quorum

    exchange = _exchange(federation, digest, 0, ask)
    reports = {}
    for answer in exchange.answers(
        sites, enough=enough, deadline_seconds=JOIN_SECONDS, rejoin_seconds=study.participation.rejoin_seconds
    ):
        if answer.report is None:
            continue
        if (answer.report.kind, answer.report.study) == (Kind.JOIN, digest):
            reports[answer.site] = answer.report
        else:
            exchange.refuse(answer.site, Code.MALFORMED_ORDER)
    return reports


def _first_state(study: Study, federation: Federation, reports: Mapping[str, Report]) -> tuple[Shared, set[str]] | None:
    """The state that most sites build from the seed, and the sites that build another. None without a quorum."""
    usable = {site: schema for site, report in sorted(reports.items()) if (schema := _schema(study, report))}
    shared = Shared({}, {})
    disagree = set(reports) - set(usable)
    for group in sorted(
        {name for schema in usable.values() for name in schema.groups}, key=lambda n: (n != ENCODER, n)
    ):
        owners = {site: reports[site].first.get(group, "") for site in usable if group in usable[site].groups}
        owners = {site: first for site, first in owners.items() if site not in disagree}
        [(agreed, votes)] = Counter(owners.values()).most_common(1) or [("", 0)]
        if group == ENCODER and votes < study.participation.quorum:
            return None
        disagree |= {site for site, first in owners.items() if first != agreed}
        sources = [site for site, first in owners.items() if first == agreed]
        if not sources:
            continue
        schema = usable[sources[0]].group(group)
        flat: Flat | None = None
        if group == ENCODER and study.encoder.start != "seed":
            flat = _registered(study, federation, schema)
        while flat is None and sources:  # a site that has gone, or does not keep its word, is passed over
            site = sources.pop(0)
            flat = _fetch(study, federation, site, usable[site], group, agreed)
        if flat is None:
            return None
        shared.schemas[group], shared.groups[group] = schema, flat
    return (shared, disagree) if ENCODER in shared.groups else None


def _fetch(study: Study, federation: Federation, site: str, schema: Schema, group: str, agreed: str) -> Flat | None:
    """One site's first state; taken only if it is, byte for byte, what the others announced."""
    reports = _join(study, federation, [site], wait_for_all=False, want_state=True)
    report = reports.get(site)
    if report is None:
        return None
    whole = len(report.payload) == schema.size * BYTES_PER_VALUE["float32"]
    part = decode("float32", report.payload if whole else b"", None)[schema.groups[group]]
    if schema.group(group).state_digest(part) != agreed:
        federation.ledger.note(Event(study.digest(), 0, site, "misfit", "first state is not what was announced"))
        return None
    return part


def _registered(study: Study, federation: Federation, schema: Schema) -> Flat:
    found, flat = federation.registry.load(study.encoder.start)
    wanted = {spec.name: spec.shape for spec in schema.arrays}
    if {spec.name: spec.shape for spec in found.arrays if spec.name in wanted} != wanted:
        raise Problem(
            f"encoder.start = {study.encoder.start[:12]}",
            "the registered encoder has other arrays than the study's",
            remedy="choose the encoder settings with which it was trained",
        )
    views = found.views(flat)
    return schema.pack({name: views[name] for name in wanted})


def _schema(study: Study, report: Report) -> Schema | None:
    """What the site would share; None when that is not what the study shares."""
    try:
        schema = Schema.from_json(report.schema)
    except ValueError:
        return None
    wanted = {ENCODER}
    if study.sharing.branches == "task":
        wanted |= {f"{BRANCHES}.{task}" for task in report.counts if task in study.tasks}
    return schema if set(report.first) == set(schema.groups) == wanted else None


def _welcome(federation: Federation, study: Study, site: str, report: Report, *, agrees: bool) -> None:
    member = Member(site, report.samples, report.counts, report.schema, report.software, agrees)
    federation.ledger.join(study.digest(), member)
    what = "joined" if agrees else "differs"
    detail = ", ".join(f"{task}: {count}" for task, count in sorted(report.counts.items()))
    federation.ledger.note(Event(study.digest(), 0, site, what, detail))


def _admit(study: Study, federation: Federation, shared: Shared) -> None:
    """Sites that were not there at the start join now, if their software builds the same kind of encoder."""
    digest = study.digest()
    known = federation.ledger.members(digest)
    present = federation.presence()
    new = [s for s in federation.nodes() if s not in known and (p := present.get(s)) is not None and p.online]
    if not new:
        return
    for site, report in _join(study, federation, new, wait_for_all=False).items():
        schema = _schema(study, report)
        fits = schema is not None and all(
            schema.group(name) == shared.schemas[name] for name in schema.groups if name in shared.schemas
        )
        fits = fits and schema is not None and set(schema.groups) <= set(shared.groups)
        _welcome(federation, study, site, report, agrees=fits)


def _round(
    study: Study, federation: Federation, shared: Shared, last: Round, held: dict[str, str]
) -> tuple[Shared, Round] | None:
    """One round, committed; None when no quorum answered."""
    began = time.monotonic()
    digest, number = study.digest(), last.number + 1
    members = _members(federation, digest)
    schemas = {site: Schema.from_json(member.schema) for site, member in members.items()}
    weights = _weights(study, members, schemas)
    ask = _Asking(study, federation, shared, schemas, held, Kind.TRAIN, number)
    folds = {group: fold.start(flat.size) for group, flat in shared.groups.items()}
    given: list[Contribution] = []
    figures: list[tuple[str, Metric]] = []

    def enough(_: set[str]) -> bool:
        return _quorum(study, {each.site for each in given}, members)  # an answer that was misfit does not count

    exchange = _exchange(federation, digest, number, ask)
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


class _Asking:
    """Builds a site's order; a payload is made once for all sites that need the same bytes."""

    def __init__(
        self,
        study: Study,
        federation: Federation,
        shared: Shared,
        schemas: Mapping[str, Schema],
        held: dict[str, str],
        kind: Kind,
        number: int,
    ) -> None:
        self._study, self._federation, self._shared = study.digest(), federation, shared
        self._schemas, self._held, self._kind, self._number = schemas, held, kind, number
        self._payloads: dict[tuple[str, Codec], ArrayRecord] = {}
        self.digests = {
            s.digest: s.state_digest(shared.of(s)) for s in {s.digest: s for s in schemas.values()}.values()
        }
        self.bytes_down: Counter[str] = Counter()

    def __call__(self, site: str, attempt: int) -> Message:
        schema = self._schemas[site]
        holds = self._held.get(site, "") if attempt == 1 else ""  # a site that lost something gets the whole state
        before = self._shared.before.get(schema.digest)
        change = bool(self._shared.changes) and holds != "" and holds == before
        codec: Codec = "bfloat16" if change else "float32"
        record = self._payload(schema, codec)
        self.bytes_down[site] += len(record["state"].data)
        self._held[site] = self.digests[schema.digest]
        order = Order(
            kind=self._kind,
            study=self._study,
            round=self._number,
            attempt=attempt,
            state_digest=self.digests[schema.digest],
            base_digest=holds if change else "",
            codec=codec,
        )
        return _message(self._federation, site, order, record)

    def is_answered_by(self, report: Report, site: str) -> bool:
        """Whether the report says that it belongs to this site's order, whichever attempt."""
        asked = (self._kind, self._study, self._number, self.digests[self._schemas[site].digest])
        return (report.kind, report.study, report.round, report.state_digest) == asked

    def _payload(self, schema: Schema, codec: Codec) -> ArrayRecord:
        key = (schema.digest, codec)
        if key not in self._payloads:
            if codec == "bfloat16":
                data = b"".join(self._shared.changes[group] for group in schema.groups)
            else:
                data = encode("float32", self._shared.of(schema), None)
            self._payloads[key] = payload_record(data)
        return self._payloads[key]


def _take(
    study: Study,
    shared: Shared,
    schemas: Mapping[str, Schema],
    weights: Mapping[str, Mapping[str, int]],
    folds: Mapping[str, fold.Fold],
    answer: Answer,
    ask: _Asking,
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


def _next_state(study: Study, shared: Shared, folds: Mapping[str, fold.Fold], digests: Mapping[str, str]) -> Shared:
    following = Shared(shared.schemas, {})
    for group, base in shared.groups.items():
        result = fold.mean(folds[group], base)
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
    members = _members(federation, digest)
    schemas = {site: Schema.from_json(member.schema) for site, member in members.items()}
    ask = _Asking(study, federation, shared, schemas, held, Kind.FINISH, last.number)
    exchange = _exchange(federation, digest, last.number, ask)

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


def distance(update: Flat, base: Flat) -> float:
    """The L2 norm of `update` - `base`, both [n], in float64."""
    total = 0.0
    for begin in range(0, base.size, fold.SLICE):
        with np.errstate(invalid="ignore"):  # a hostile NaN shows in the result
            change = update[begin : begin + fold.SLICE].astype(np.float64) - base[begin : begin + fold.SLICE]
            total += float(change @ change)
    return float(np.sqrt(total))


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
        for metric in report.metrics
    )


def _headline(study: Study, report: Report) -> str:
    """The first metric of each task on the test split, for people who watch."""
    shown: dict[str, str] = {}
    for metric in report.metrics:
        if metric.split == "test" and metric.name == METRICS[study.tasks[metric.task].kind][0]:
            shown[metric.task] = f"{metric.task} {metric.name} {metric.value:.3f} (n={metric.count})"
    return ", ".join(shown[task] for task in sorted(shown))


def _members(federation: Federation, study: str) -> dict[str, Member]:
    nodes = federation.nodes()
    return {s: m for s, m in federation.ledger.members(study).items() if m.agrees and s in nodes}


def _load(federation: Federation, last: Round) -> Shared:
    schema, flat = federation.registry.load(last.state)
    return Shared(
        {name: schema.group(name) for name in schema.groups},
        {name: flat[where] for name, where in schema.groups.items()},
    )


def _exchange(federation: Federation, study: str, number: int, ask: Callable[[str, int], Message]) -> Exchange:
    def notice(site: str, what: str, detail: str) -> None:
        federation.ledger.note(Event(study, number, site, what, detail))

    return Exchange(federation.grid, federation.presence, ask, notice)


def _message(federation: Federation, site: str, order: Order, arrays: ArrayRecord) -> Message:
    return Message(
        content=order_content(order, arrays),
        dst_node_id=federation.nodes()[site],
        message_type=order.kind,
        ttl=LIFETIME,
    )
