"""How the hub and its sites are, for Prometheus: each figure is read from the ledger when it is asked for.

Labels are words of our own, names of sites, and studies by id and the begin of their digest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime

import sqlalchemy as sa
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from polyward_server.contacts import read_contacts
from polyward_server.ledger import Ledger
from polyward_server.records import State
from polyward_server.roster import Roster
from polyward_server.tables import approvals, contributions, events, rounds, studies
from polyward_shared.problems import Code

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
STUDY = ("study", "digest")


def metrics_text(ledger: Ledger, roster: Roster) -> str:
    """All figures in Prometheus' text format, version 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Health(ledger, roster))
    return generate_latest(registry).decode()


class _Health:
    """What a registry asks for; nothing is counted between two questions."""

    def __init__(self, ledger: Ledger, roster: Roster) -> None:
        self._ledger = ledger
        self._roster = roster

    def collect(self) -> Iterator[Metric]:
        with self._ledger.engine.connect() as db:
            named = {row.digest: (row.id, row.digest[:12]) for row in db.execute(sa.select(studies))}
            yield from _of_studies(db, named)
            yield from _of_contributions(db, named)
            yield from _of_events(db, named)
        yield from _of_sites(self._ledger, self._roster)


def _of_studies(db: sa.Connection, named: Mapping[str, tuple[str, str]]) -> Iterator[Metric]:
    states = GaugeMetricFamily("polyward_studies", "Studies by where they stand", labels=["state"])
    found = _counted(db, studies.c.state)
    for state in State:
        states.add_metric([state], found.get(state, 0))
    yield states
    reached = GaugeMetricFamily("polyward_study_round", "The last committed round", labels=STUDY)
    since = GaugeMetricFamily("polyward_study_since_commit_seconds", "Seconds since that round", labels=STUDY)
    last = sa.select(rounds.c.study, sa.func.max(rounds.c.round), sa.func.max(rounds.c.committed))
    for study, number, committed in db.execute(last.group_by(rounds.c.study)):
        reached.add_metric(named[study], number)
        since.add_metric(named[study], max(0.0, time.time() - datetime.fromisoformat(committed).timestamp()))
    yield from (reached, since)
    given = GaugeMetricFamily("polyward_study_approvals", "Sites that approve the study now", labels=STUDY)
    counted = _counted(db, approvals.c.study)
    for study, labels in named.items():
        given.add_metric(labels, counted.get(study, 0))
    yield given


def _of_contributions(db: sa.Connection, named: Mapping[str, tuple[str, str]]) -> Iterator[Metric]:
    labels = (*STUDY, "site")
    count = CounterMetricFamily("polyward_contributions", "Accepted updates", labels=labels)
    sent = CounterMetricFamily("polyward_bytes", "Bytes of states and updates", labels=(*labels, "way"))
    of = contributions.c
    sums = sa.select(of.study, of.site, sa.func.count(), sa.func.sum(of.bytes_up), sa.func.sum(of.bytes_down))
    for study, site, number, up, down in db.execute(sums.group_by(of.study, of.site).order_by(of.study, of.site)):
        count.add_metric((*named[study], site), number)
        sent.add_metric((*named[study], site, "up"), float(up))
        sent.add_metric((*named[study], site, "down"), float(down))
    yield from (count, sent)


def _of_events(db: sa.Connection, named: Mapping[str, tuple[str, str]]) -> Iterator[Metric]:
    happened = CounterMetricFamily("polyward_events", "Events of the audit record", labels=["what"])
    for what, count in db.execute(sa.select(events.c.what, sa.func.count()).group_by(events.c.what)):
        happened.add_metric([what], count)
    refused = CounterMetricFamily("polyward_refusals", "Orders without a report", labels=(*STUDY, "site", "code"))
    of = events.c
    of_all = sa.select(of.study, of.site, of.detail, sa.func.count()).where(of.what == "refused")
    for study, site, code, count in db.execute(of_all.group_by(of.study, of.site, of.detail)):
        if study in named and code in set(Code):
            refused.add_metric((*named[study], site, code), count)
    yield from (happened, refused)


def _of_sites(ledger: Ledger, roster: Roster) -> Iterator[Metric]:
    here = GaugeMetricFamily("polyward_site_connected", "1 while the node is connected", labels=["site"])
    silent = GaugeMetricFamily("polyward_site_silent_seconds", "Seconds since its last word", labels=["site"])
    days = GaugeMetricFamily("polyward_site_certificate_days", "Days its certificate is good for", labels=["site"])
    contacts = read_contacts(ledger)
    for site in roster.keys():  # noqa: SIM118  a method of the roster
        if (issued := roster.newest(site)) is not None:
            days.add_metric([site], (issued.expires - time.time()) / 86400)
        contact = contacts.get(site)
        here.add_metric([site], float(contact is not None and contact.connected))
        if contact is not None:
            silent.add_metric([site], max(0.0, time.time() - contact.at))
    yield from (here, silent, days)


def _counted(db: sa.Connection, column: sa.Column[str]) -> dict[str, int]:
    """How many rows of its table each value has."""
    return {row[0]: row[1] for row in db.execute(sa.select(column, sa.func.count()).group_by(column))}
