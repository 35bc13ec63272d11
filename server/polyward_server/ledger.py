"""The hub's durable truth: studies, sites, rounds, contributions, figures and events, in one database.

A round is one transaction: its state's digest, every contribution and every figure, or nothing. The primary keys make
a second contribution of the same site to the same round impossible.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from polyward_server import audit, course, measurements
from polyward_server.database import Where, open_database
from polyward_server.records import Contribution, Event, Member, Noted, Pair, Round, Signals, State
from polyward_server.tables import (
    approvals,
    contributions,
    events,
    kept,
    members,
    pairs,
    rounds,
    studies,
)
from polyward_shared.messages import Kept, Metric
from polyward_shared.reading import validated
from polyward_shared.study import Study

Watcher = Callable[[Event], None]


class Ledger:
    """The database. `watch` is told every event after it is written."""

    def __init__(self, where: Where | str, watch: Watcher = lambda _: None) -> None:
        self._engine = open_database(where)
        self._watch = watch

    @property
    def engine(self) -> sa.Engine:
        """The database, for the roster of sites that lies in it too."""
        return self._engine

    def close(self) -> None:
        self._engine.dispose()

    # --- studies

    def queue(self, study: Study, *, actor: str = "") -> str:
        """Puts the study into the queue (again, if it was stopped or failed) and returns its digest."""
        digest = study.digest()
        with self._engine.begin() as db:
            audit.take_turn(db)
            known = db.execute(sa.select(studies.c.state).where(studies.c.digest == digest)).scalar()
            if known is None:
                happened: Event | None = course.enter(db, study, State.QUEUED, actor=actor)
            else:
                again = (State.DRAFT, State.STOPPED, State.FAILED)
                happened = course.change(db, digest, State.QUEUED, actor=actor, only_from=again)
        if happened is not None:
            self._watch(happened)
        return digest

    def study(self, digest: str) -> Study:
        with self._engine.connect() as db:
            text = db.execute(sa.select(studies.c.text).where(studies.c.digest == digest)).scalar_one()
        return validated(json.loads(text), Study, where=f"study {digest[:12]} in the ledger")

    def study_state(self, digest: str) -> tuple[str, str]:
        """State and reason."""
        with self._engine.connect() as db:
            row = db.execute(sa.select(studies.c.state, studies.c.reason).where(studies.c.digest == digest)).one()
        return row.state, row.reason

    def studies_in(self, *states: str) -> list[str]:
        """Digests of the studies in these states, longest waiting first."""
        with self._engine.connect() as db:
            query = sa.select(studies.c.digest).where(studies.c.state.in_(states)).order_by(studies.c.queued)
            return list(db.execute(query).scalars())

    def set_state(
        self,
        digest: str,
        state: str,
        reason: str = "",
        *,
        actor: str = "",
        only_from: Collection[State] | None = None,
    ) -> bool:
        """The study is in this state from now on, as its course allows (`course.change`); whether anything changed."""
        with self._engine.begin() as db:
            happened = course.change(db, digest, State(state), reason=reason, actor=actor, only_from=only_from)
        if happened is not None:
            self._watch(happened)
        return happened is not None

    def in_line(self) -> list[str]:
        """Digests of the studies that a runner takes, the next one first."""
        with self._engine.connect() as db:
            return course.in_line(db)

    # --- members and rounds

    def join(self, study: str, member: Member, what: str = "joined", detail: str = "") -> None:
        """Keeps what a site brought, and says so; joining again replaces it."""
        values = {**asdict(member), "counts": json.dumps(member.counts, sort_keys=True)}
        happened = Event(study, 0, member.site, what, detail)
        with self._engine.begin() as db:
            audit.append(db, happened)
            db.execute(sa.delete(members).where((members.c.study == study) & (members.c.site == member.site)))
            db.execute(members.insert().values(study=study, **values))
        self._watch(happened)

    def members(self, study: str) -> dict[str, Member]:
        with self._engine.connect() as db:
            rows = db.execute(sa.select(members).where(members.c.study == study).order_by(members.c.site))
            return {
                row.site: Member(row.site, row.samples, json.loads(row.counts), row.schema, row.software, row.agrees)
                for row in rows
            }

    def leave(self, study: str, site: str) -> None:
        """The site withdrew: it is asked no more, and may join again. Once said is enough."""
        with self._engine.begin() as db:
            audit.take_turn(db)
            here = (members.c.study == study) & (members.c.site == site) & members.c.agrees
            if not db.execute(members.update().where(here).values(agrees=False)).rowcount:
                return
            last = db.execute(sa.select(sa.func.max(rounds.c.round)).where(rounds.c.study == study)).scalar()
            happened = Event(study, last or 0, site, "withdrawn")
            audit.append(db, happened)
        self._watch(happened)

    def history(self, after: int = 0) -> list[tuple[str, ...]]:
        """Every committed round of every study but the first `after`, in the order of commitment, with who gave what:
        what a head is over."""
        with self._engine.connect() as db:
            order = sa.select(rounds).order_by(rounds.c.committed, rounds.c.study, rounds.c.round).offset(after)
            committed = db.execute(order).all()  # first: a round that is committed between the two looks is left out
            query = sa.select(contributions).order_by(contributions.c.site)
            if after:
                query = query.where(contributions.c.study.in_({row.study for row in committed}))
                query = query.where(contributions.c.round.in_({row.round for row in committed}))
            given: dict[tuple[str, int], list[str]] = {}
            for row in db.execute(query):
                given.setdefault((row.study, row.round), []).append(f"{row.site}={row.sha256}")
            return [
                (row.study, str(row.round), row.state, row.encoder, *given.get((row.study, row.round), ()))
                for row in committed
            ]

    def last_round(self, study: str) -> Round | None:
        """The last committed round: a restarted hub goes on after it."""
        committed = self.rounds(study)
        return committed[-1] if committed else None

    def rounds(self, study: str, *, after: int = -1) -> list[Round]:
        """The committed rounds with a larger number."""
        with self._engine.connect() as db:
            query = sa.select(rounds).where(rounds.c.study == study, rounds.c.round > after)
            rows = db.execute(query.order_by(rounds.c.round))
            return [
                Round(
                    row.round,
                    row.state,
                    row.encoder,
                    row.seconds,
                    row.memory,
                    json.loads(row.variants),
                    Signals(row.step, row.drift, row.cancellation, row.orthogonal, row.effective),
                    row.committed,
                )
                for row in rows
            ]

    def commit_round(
        self,
        study: str,
        committed: Round,
        given: Sequence[Contribution] = (),
        figures: Iterable[tuple[str, Metric]] = (),
        between: Sequence[Pair] = (),
        fence: Callable[[sa.Connection], None] = lambda _: None,
    ) -> None:
        """One transaction. Raises `sqlalchemy.exc.IntegrityError` if the round was committed before, and whatever
        `fence` raises, in the same transaction, for a runner that may not commit any more."""
        with self._engine.begin() as db:
            audit.take_turn(db)  # so that no other study's round is committed with an earlier time after this one
            fence(db)
            newest = db.execute(sa.select(sa.func.max(rounds.c.committed))).scalar() or ""
            db.execute(
                rounds.insert().values(
                    study=study,
                    round=committed.number,
                    state=committed.state,
                    encoder=committed.encoder,
                    seconds=committed.seconds,
                    committed=_after(newest),
                    memory=committed.memory,
                    variants=json.dumps(committed.variants, sort_keys=True),
                    **asdict(committed.signals),
                )
            )
            if given:
                rows = [{"study": study, "round": committed.number, **asdict(each)} for each in given]
                db.execute(contributions.insert(), rows)
            if between:
                rows = [{"study": study, "round": committed.number, **asdict(each)} for each in between]
                db.execute(pairs.insert(), rows)
            measurements.add(db, study, committed.number, figures)
            happened = Event(study, committed.number, "", "committed", committed.encoder)
            audit.append(db, happened)
        self._watch(happened)

    def conclude(self, happened: Event, models: Mapping[str, Kept], figures: Iterable[Metric]) -> None:
        """What a site says at the end of a study: its last figures, and which model it keeps for each task."""
        site = happened.site
        with self._engine.begin() as db:
            audit.append(db, happened)
            measurements.keep(db, happened.study, site, models)
            measurements.replace(db, happened.study, happened.round, site, figures)
        self._watch(happened)

    def contributions(self, study: str, *, after: int = -1) -> dict[int, list[Contribution]]:
        """The accepted updates of every round with a larger number."""
        found: dict[int, list[Contribution]] = {}
        with self._engine.connect() as db:
            query = sa.select(contributions).where(contributions.c.study == study, contributions.c.round > after)
            for row in db.execute(query.order_by(contributions.c.round, contributions.c.site)):
                values = {key: value for key, value in row._mapping.items() if key not in {"study", "round"}}
                found.setdefault(row.round, []).append(Contribution(**values))
        return found

    def metrics(self, study: str) -> list[tuple[int, str, Metric]]:
        """Every figure: round, site, metric."""
        with self._engine.connect() as db:
            return measurements.read(db, study)

    def pairs(self, study: str, *, after: int = -1) -> dict[int, list[Pair]]:
        """How the sites' updates of the encoder stood to one another, by round, of those with a larger number."""
        found: dict[int, list[Pair]] = {}
        with self._engine.connect() as db:
            query = sa.select(pairs).where(pairs.c.study == study, pairs.c.round > after)
            for row in db.execute(query.order_by(pairs.c.round, pairs.c.site, pairs.c.other)):
                found.setdefault(row.round, []).append(Pair(row.site, row.other, row.cosine, row.magnitude))
        return found

    def kept(self, study: str) -> dict[tuple[str, str], str]:
        """By site and task: the model that the site keeps."""
        with self._engine.connect() as db:
            rows = db.execute(sa.select(kept).where(kept.c.study == study).order_by(kept.c.site, kept.c.task))
            return {(row.site, row.task): row.model for row in rows}

    def approvals(self, study: str) -> dict[str, str]:
        """Sites that said they have approved the study, and when."""
        with self._engine.connect() as db:
            rows = db.execute(sa.select(approvals).where(approvals.c.study == study).order_by(approvals.c.site))
            return {row.site: row.at for row in rows}

    # --- events

    def note(self, happened: Event) -> None:
        with self._engine.begin() as db:
            audit.append(db, happened)
        self._watch(happened)

    def noted(
        self, *, after: int = 0, before: int | None = None, study: str | None = None, last: int | None = None
    ) -> list[Noted]:
        """Events between these numbers, oldest first: of one study if named; only the `last` so many if said."""
        query = sa.select(events).where(events.c.id > after)
        if before is not None:
            query = query.where(events.c.id < before)
        if study is not None:
            query = query.where(events.c.study == study)
        if last is not None:
            query = query.order_by(events.c.id.desc()).limit(last)
        with self._engine.connect() as db:
            return sorted(audit.noted(db, query), key=lambda each: each.number)

    def events_after(self, number: int, study: str) -> list[tuple[int, Event]]:
        """The study's events whose number is larger, oldest first."""
        return [(each.number, each.event) for each in self.noted(after=number, study=study)]


def _after(newest: str) -> str:
    """Now, or just after `newest`: receipts are signed for the order of rounds, and a clock may be set back."""
    if newest < (now := _now()):
        return now
    return (datetime.fromisoformat(newest) + timedelta(milliseconds=1)).isoformat(timespec="milliseconds")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
