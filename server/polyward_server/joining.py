"""Round 0 and latecomers: who takes part, and the first state that the federation agrees on (DESIGN 5.3)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

import numpy as np
from flwr.app import Message

from polyward_server.exchange import Patience
from polyward_server.federation import Federation
from polyward_server.records import Event, Member, Round
from polyward_server.registry.catalogue import read_catalogue
from polyward_server.shared_state import Shared
from polyward_shared.codec import BYTES_PER_VALUE, decode
from polyward_shared.messages import Kind, Order, Report
from polyward_shared.problems import Code, Problem
from polyward_shared.schema import ENCODER, Flat, Schema
from polyward_shared.study import Study
from polyward_shared.wire import payload_record

JOIN_SECONDS = 60.0  # a site that is here answers a join within seconds; a first reading of many images takes longer
ADMIT_SECONDS = 10.0  # a running study waits no longer for a latecomer, which reads its images meanwhile
ADMIT_AGAIN_SECONDS = 60.0  # before a site that refused, differed or was slow is asked again


def begin(study: Study, federation: Federation) -> Round | None:
    """Round 0: who takes part, and the first state that a quorum agrees on (or the registered one). None without it."""
    digest = study.digest()
    reports = _join(study, federation, sorted(federation.nodes()), seconds=JOIN_SECONDS)
    first = _first_state(study, federation, reports)
    if first is None:
        return None
    shared, disagree = first
    for site, report in reports.items():
        _welcome(federation, study, site, report, agrees=site not in disagree)
    schema, flat = shared.whole()
    state = federation.registry.add(schema, flat, {"study": digest, "round": "0"})
    begun = Round(0, state, shared.schemas[ENCODER].state_digest(shared.groups[ENCODER]), 0.0)
    federation.ledger.commit_round(digest, begun, fence=federation.fence)
    return begun


def admit(study: Study, federation: Federation, shared: Shared, asked: dict[str, float]) -> None:
    """Sites that were not there at the start join now, if their software builds the same kind of encoder.

    `asked` keeps when each site was asked last (monotonic seconds), so that one that refuses is not asked every round.
    """
    members = federation.ledger.members(study.digest())
    present, now = federation.presence(), time.monotonic()
    new = [
        site
        for site in federation.nodes()
        if (site not in members or not members[site].agrees or shared.lacks(Schema.from_json(members[site].schema)))
        and (here := present.get(site)) is not None
        and here.online
        and now - asked.get(site, -ADMIT_AGAIN_SECONDS) >= ADMIT_AGAIN_SECONDS
    ]
    if not new:
        return
    for site, report in _join(study, federation, new, seconds=ADMIT_SECONDS).items():
        schema = _schema(study, report)
        fits = schema is not None
        if fits and study.encoder.start == "seed":  # other software may give other values in arrays of the same shape
            fits = report.first.get(ENCODER) == federation.ledger.rounds(study.digest())[0].encoder
        if schema is not None and fits:
            fits = _takes_in(study, federation, shared, site, schema, report)
        _welcome(federation, study, site, report, agrees=fits)
    asked.update(dict.fromkeys(new, time.monotonic()))


def _takes_in(study: Study, federation: Federation, shared: Shared, site: str, schema: Schema, report: Report) -> bool:
    """Whether the newcomer's arrays are those that are shared. Branches of a task that nobody had yet begin with it."""
    known = [name for name in schema.groups if name in shared.schemas]
    if ENCODER not in known or any(shared.schemas[name] != schema.group(name) for name in known):
        return False
    for name in shared.lacks(schema):
        first = _fetch(study, federation, site, schema, name, report.first.get(name, ""), seconds=ADMIT_SECONDS)
        if first is None:
            return False
        shared.schemas[name], shared.groups[name] = schema.group(name), first
    return True


def _join(
    study: Study, federation: Federation, sites: list[str], *, seconds: float, want_state: bool = False
) -> dict[str, Report]:
    """The joining sites' reports, from those that answer in time."""
    digest = study.digest()

    def ask(site: str, attempt: int) -> Message:
        order = Order(kind=Kind.JOIN, study=digest, attempt=attempt, want_state=want_state)
        return federation.message(site, order, payload_record(b""))

    exchange = federation.exchange(digest, 0, ask)
    reports = {}
    for answer in exchange.answers(
        sites,
        enough=lambda _: True,
        patience=Patience(seconds, min(seconds, study.participation.rejoin_seconds)),
    ):
        if answer.report is None:
            continue
        if (answer.report.kind, answer.report.study) == (Kind.JOIN, digest) and _is_schema(answer.report.schema):
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
            flat = _fetch(study, federation, site, usable[site], group, agreed, seconds=JOIN_SECONDS)
        if flat is None and group == ENCODER:
            return None
        if flat is None:  # nobody keeps the word that was given for this branch: the study goes on without them
            disagree |= set(owners)
            continue
        shared.schemas[group], shared.groups[group] = schema, flat
    return (shared, disagree) if ENCODER in shared.groups else None


def _fetch(
    study: Study, federation: Federation, site: str, schema: Schema, group: str, agreed: str, *, seconds: float
) -> Flat | None:
    """One site's first state; taken only if it is, byte for byte, what the others announced, and finite."""
    reports = _join(study, federation, [site], seconds=seconds, want_state=True)
    report = reports.get(site)
    if report is None:
        return None
    whole = len(report.payload) == schema.size * BYTES_PER_VALUE["float32"]
    part = decode("float32", report.payload if whole else b"", None)[schema.groups[group]]
    if not whole or schema.group(group).state_digest(part) != agreed or not np.isfinite(part).all():
        federation.ledger.note(Event(study.digest(), 0, site, "misfit", "first state is not what was announced"))
        return None
    return part


def _registered(study: Study, federation: Federation, schema: Schema) -> Flat:
    digests = read_catalogue(federation.ledger, federation.registry).digests  # it may name an encoder beside branches
    found, flat = federation.registry.load(digests.get(study.encoder.start, study.encoder.start))
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
    schema = Schema.from_json(report.schema)
    wanted = study.groups(task for task in report.counts if task in study.tasks)
    return schema if set(report.first) == set(schema.groups) == wanted else None


def _is_schema(text: str) -> bool:
    """Whether it may be kept: whoever shows a member reads its schema, whether it is the study's or not."""
    try:
        Schema.from_json(text)
    except ValueError:
        return False
    return True


def _welcome(federation: Federation, study: Study, site: str, report: Report, *, agrees: bool) -> None:
    member = Member(site, report.samples, report.counts, report.schema, report.software, agrees)
    detail = ", ".join(f"{task}: {count}" for task, count in sorted(report.counts.items()))
    federation.ledger.join(study.digest(), member, "joined" if agrees else "differs", detail)
