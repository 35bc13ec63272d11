"""Everything that the panels of one study show, read once for all of them.

Committed rounds never change, so they are kept between two looks, and only what is new is read. Figures are many: a
series of them is read when a panel first asks for it, and kept from then on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from polyward_server.contacts import Contact, pulse_of, read_contacts
from polyward_server.gains import primary, shown_split
from polyward_server.lease import is_held
from polyward_server.ledger import Ledger
from polyward_server.records import Contribution, Event, Member, Noted, Pair, Round, State
from polyward_server.roster import Roster
from polyward_server.tables import heads, metrics, rounds, studies
from polyward_server.told import Span, read_spans
from polyward_shared.messages import AT_THE_END, Stage
from polyward_shared.problems import Problem
from polyward_shared.study import Study

MOST_STUDIES = 8  # kept in memory; the one that was looked at longest ago goes first
RECENT = 10  # rounds whose course in time is kept
UNSETTLED = 2  # of them, rounds of which a site may still tell
OF_MEMBERS = frozenset({"joined", "differs", "withdrawn"})  # events after which the members are others
COMPARED = (Stage.TRAINED, Stage.ALONE, Stage.FINAL, Stage.ALONE_FINAL)  # the federated model and its rival
WHOLE, SHORTEST_PREFIX = 64, 6  # letters of a digest, and of one that names a study


class NoSuchStudy(Problem):
    """No study of this hub has this digest."""


@dataclass(frozen=True, slots=True)
class Point:
    """One figure of a series."""

    round: int
    value: float
    cases: int
    low: float | None
    high: float | None


RecordT = TypeVar("RecordT")
Series = Mapping[str, tuple[Point, ...]]  # site -> its figures of one task, split, stage and name, round by round
Key = tuple[str, str, Stage, str]  # task, split, stage, name


@dataclass(slots=True)
class _Figures:
    """The series that somebody asked for, as far as they were read."""

    ledger: Ledger
    study: str
    through: dict[Key, int] = field(default_factory=dict)  # the last round that was read
    known: dict[Key, dict[str, tuple[Point, ...]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def forget_the_end(self) -> None:
        """Figures of the final tuning may be replaced."""
        with self.lock:
            for key in [key for key in self.through if key[2] in AT_THE_END]:
                del self.through[key], self.known[key]

    def read(self, key: Key, last: int) -> Series:
        """Up to round `last`."""
        self.bring([key], last)
        return self.known[key]

    def bring(self, keys: Iterable[Key], last: int) -> None:
        """Reads what is new of several series in one go."""
        with self.lock:
            behind: dict[int, list[Key]] = {}
            for key in keys:
                if (after := self.through.get(key, -1)) < last or key not in self.known:
                    behind.setdefault(after, []).append(key)
            for after, wanted in behind.items():
                new: dict[Key, dict[str, list[Point]]] = {key: {} for key in wanted}
                for row in self._rows(wanted, after, last):
                    key = row.task, row.split, Stage(row.stage), row.name
                    point = Point(row.round, row.value, row.cases, row.low, row.high)
                    new[key].setdefault(row.site, []).append(point)
                for key, sites in new.items():
                    known = self.known.get(key, {})
                    self.known[key] = known | {site: (*known.get(site, ()), *added) for site, added in sites.items()}
                    self.through[key] = last

    def _rows(self, keys: list[Key], after: int, last: int) -> Sequence[sa.Row[Any]]:
        column = metrics.c
        wanted = sa.tuple_(column.task, column.split, column.stage, column.name).in_(keys)
        query = sa.select(metrics).where(column.study == self.study, column.round > after, column.round <= last, wanted)
        with self.ledger.engine.connect() as db:
            return db.execute(query.order_by(column.round)).all()


@dataclass(frozen=True, slots=True)
class Picture:
    """One study as it stood at one moment. Mappings by round hold committed rounds alone."""

    digest: str
    study: Study
    state: State
    reason: str
    author: str
    extends: str
    held: bool  # a runner has it in its hands
    line: tuple[tuple[str, str], ...]  # digest and name of the studies that a runner takes, the next one first
    rounds: tuple[Round, ...]
    given: Mapping[int, tuple[Contribution, ...]]
    pairs: Mapping[int, tuple[Pair, ...]]  # of the last rounds
    members: Mapping[str, Member]
    approvals: Mapping[str, str]
    kept: Mapping[tuple[str, str], str]
    admitted: frozenset[str]  # sites of the hub that may take part
    revoked: frozenset[str]
    contacts: Mapping[str, Contact]
    expiries: Mapping[str, float]  # Unix seconds: of the certificate of each site that is good for longest
    events: tuple[Noted, ...]  # of the study, oldest first
    spans: Mapping[int, Mapping[str, tuple[Span, ...]]]  # of the last rounds, the open one too
    _figures: _Figures

    @property
    def last(self) -> int:
        """The last committed round; 0 where there is none but the first state, or not even that."""
        return self.rounds[-1].number if self.rounds else 0

    @property
    def opened(self) -> datetime | None:
        """When the open round's first site was asked, since the study was last taken up; None without an open round."""
        if self.state not in {State.RUNNING, State.WAITING, State.RESUMING} or self.last >= self.study.rounds:
            return None
        first: str | None = None
        for noted in reversed(self.events):
            event = noted.event
            if event.what == "asked" and event.round == self.last + 1:
                first = noted.at
            elif not event.site and event.what in {"committed", "started", State.RESUMING}:
                break
        return moment(first) if first else None

    @property
    def sites(self) -> tuple[str, ...]:
        """Everybody who has to do with the study: members and those that approved it; or else all sites of the hub."""
        return tuple(sorted(self.members.keys() | self.approvals.keys())) or tuple(sorted(self.admitted))

    @property
    def places(self) -> Mapping[str, int]:
        """A number for each site, by which it has the same colour in every chart."""
        return {site: place for place, site in enumerate(self.sites)}

    @property
    def split(self) -> str:
        """The split by which models are compared."""
        return shown_split(self.study)

    def primary(self, task: str) -> str:
        """The figure that tables show first."""
        return primary(self.study, task)

    def series(self, task: str, split: str, stage: Stage, name: str) -> Series:
        """The sites' figures; a site without any is not among them."""
        return self._figures.read((task, split, stage, name), self.last)

    def told(self, *what: str) -> list[tuple[Noted, Event]]:
        """The study's events of these kinds, oldest first."""
        return [(noted, noted.event) for noted in self.events if noted.event.what in what]


class Pictures:
    """The pictures of all studies of a hub. May be used from any thread."""

    def __init__(self, ledger: Ledger, roster: Roster) -> None:
        self._ledger, self._roster = ledger, roster
        self._known: OrderedDict[str, tuple[object, Picture]] = OrderedDict()
        self._lock = threading.Lock()

    def named(self, prefix: str) -> str:
        """The digest of the one study whose digest begins so. Raises `Problem`."""
        with self._ledger.engine.connect() as db:
            found = db.execute(sa.select(studies.c.digest).where(studies.c.digest.startswith(prefix, autoescape=True)))
            digests = [str(digest) for digest in found.scalars()]
        if len(prefix) < SHORTEST_PREFIX or not digests:
            raise NoSuchStudy("study", "there is no such study here", expected="a study's digest, or how it begins")
        if len(digests) > 1:
            raise NoSuchStudy("study", f"{len(digests)} studies' digests begin so", expected="more of the digest")
        return digests[0]

    def look(self, digest: str) -> Picture:
        """The study as it stands now, by its digest or how that begins. Raises `Problem` for one that is not here."""
        digest = digest if len(digest) == WHOLE else self.named(digest)
        with self._lock:
            pulse = self._feel()
            before, picture = self._known.get(digest, (None, None))
            if picture is None or pulse != before:
                picture = self._read(digest, picture)
                self._known[digest] = pulse, picture
            self._known.move_to_end(digest)
            if len(self._known) > MOST_STUDIES:
                self._known.popitem(last=False)
            return picture

    def _feel(self) -> object:
        """Another value whenever a picture may have become another."""
        with self._ledger.engine.connect() as db:
            return pulse_of(db), db.execute(sa.select(sa.func.max(heads.c.number))).scalar()

    def _read(self, digest: str, before: Picture | None) -> Picture:
        ledger, roster = self._ledger, self._roster
        with ledger.engine.connect() as db:
            row = db.execute(sa.select(studies).where(studies.c.digest == digest)).first()
            names = {each.digest: each.id for each in db.execute(sa.select(studies.c.digest, studies.c.id))}
            last = db.execute(sa.select(sa.func.max(rounds.c.round)).where(rounds.c.study == digest)).scalar()
        if row is None:
            raise NoSuchStudy("study", "there is no such study here any more")
        last = -1 if last is None else last  # whatever is committed meanwhile is left for the next look
        had = before.rounds[-1].number if before and before.rounds else -1
        new = ledger.noted(after=before.events[-1].number if before and before.events else 0, study=digest)
        figures = before._figures if before else _Figures(ledger, digest)
        if any(noted.event.what == "finished" for noted in new):
            figures.forget_the_end()
        study = before.study if before else ledger.study(digest)
        figures.bring(_shown_first(study), last)
        first = max(1, last + 1 - RECENT)
        pairs = {**(before.pairs if before else {}), **_settled(last, ledger.pairs(digest, after=max(had, first - 1)))}
        spans = dict(before.spans) if before else {}
        fresh = read_spans(ledger, digest, first=first if not before else max(first, had + 1 - UNSETTLED))
        spans |= {number: {s: tuple(each) for s, each in sites.items()} for number, sites in fresh.items()}
        joined = before is None or any(noted.event.what in OF_MEMBERS for noted in new)
        return Picture(
            digest=digest,
            study=study,
            state=State(row.state),
            reason=row.reason,
            author=row.author,
            extends=row.extends,
            held=is_held(ledger.engine, digest),
            line=tuple((each, names.get(each, "")) for each in ledger.in_line()),
            rounds=(*(before.rounds if before else ()), *_until(last, ledger.rounds(digest, after=had))),
            given={**(before.given if before else {}), **_settled(last, ledger.contributions(digest, after=had))},
            pairs={number: each for number, each in pairs.items() if number >= first},
            members=ledger.members(digest) if joined or before is None else before.members,
            approvals=ledger.approvals(digest),
            kept=ledger.kept(digest),
            admitted=frozenset(roster.keys()),
            revoked=frozenset(roster.revoked()),
            contacts=read_contacts(ledger),
            expiries=roster.expiries(),
            events=(*(before.events if before else ()), *new),
            spans={number: sites for number, sites in sorted(spans.items()) if number >= first},
            _figures=figures,
        )


def _shown_first(study: Study) -> list[Key]:
    """What a page shows before anybody has chosen."""
    return [(task, shown_split(study), stage, primary(study, task)) for task in study.tasks for stage in COMPARED]


def moment(text: str) -> datetime:
    """A time of the ledger."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _until(last: int, found: list[Round]) -> list[Round]:
    return [each for each in found if each.number <= last]


def _settled(last: int, found: Mapping[int, list[RecordT]]) -> dict[int, tuple[RecordT, ...]]:
    return {number: tuple(each) for number, each in found.items() if number <= last}
