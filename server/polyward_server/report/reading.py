"""The facts of a report, read from the ledger once: nothing is computed that the record does not say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, median

from polyward_server import audit
from polyward_server.gains import primary, shown_split
from polyward_server.history import check_checkpoints
from polyward_server.ledger import Ledger
from polyward_server.records import ENDED, Contribution, Noted, Round, State
from polyward_server.report.curves import Course
from polyward_server.report.naming import Names, by_letter, by_name
from polyward_server.roster import Roster
from polyward_server.views.conflict import cosines_of
from polyward_server.views.receipts import Receipts, read_receipts
from polyward_server.views.results import Results, read_results
from polyward_server.views.troubles import KINDS
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Problem
from polyward_shared.study import Study

TROUBLES = frozenset({*KINDS, "unapproved"})


@dataclass(frozen=True, slots=True)
class Pull:
    """How one site's updates stood to those of the others, over all rounds."""

    site: str
    rounds: int
    norm: float  # median length
    share: float | None  # mean part of the encoder's step
    agreement: float | None  # mean cosine with the sum of the others
    shortened: int  # times


@dataclass(frozen=True, slots=True)
class Audited:
    """Whether the record is what it was when it was written. A `wrong` is the sentence that says why it is not."""

    number: int  # events of the whole hub
    head: str
    wrong: str
    checkpoints: int
    checkpoints_wrong: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a report says, with the sites' own names; `names` says how they stand in it."""

    hub: str
    study: Study
    digest: str
    settings: str  # study.toml
    state: State
    reason: str
    rounds: tuple[Round, ...]
    receipts: Receipts
    results: Results
    courses: Mapping[str, tuple[Course, ...]]  # by task
    cosines: Mapping[tuple[str, str], float]  # mean over rounds, names in order
    pulls: tuple[Pull, ...]
    events: tuple[Noted, ...]
    figures: int  # that the hub holds, of all metrics, splits and stages
    audited: Audited
    names: Names
    named: bool
    exact: bool

    @property
    def interim(self) -> bool:
        return self.state not in ENDED

    @property
    def last(self) -> int:
        """The number of the last committed round; 0 where none is."""
        return self.rounds[-1].number if self.rounds else 0

    @property
    def troubles(self) -> list[Noted]:
        return [each for each in self.events if each.event.what in TROUBLES and each.event.site]

    @property
    def course(self) -> list[Noted]:
        """The states through which the study went."""
        states = set(State)
        return [each for each in self.events if each.event.what in states and not each.event.site]


def read_facts(
    ledger: Ledger,
    roster: Roster,
    hub: str,
    digest: str,
    settings: str,
    *,
    named: bool = False,
    exact: bool = False,
) -> Facts:
    """The facts of the study with this digest, whose study.toml is `settings`."""
    study, (state, reason) = ledger.study(digest), ledger.study_state(digest)
    receipts, figures = read_receipts(ledger, digest, exact=exact), ledger.metrics(digest)
    others = {*roster.keys(), *roster.revoked()} - {row.site for row in receipts.rows}
    return Facts(
        hub=hub,
        study=study,
        digest=digest,
        settings=settings,
        state=State(state),
        reason=reason,
        rounds=tuple(ledger.rounds(digest)),
        receipts=receipts,
        results=read_results(ledger, digest, exact=exact),
        courses=_courses(study, figures),
        cosines=_cosines(ledger, digest),
        pulls=_pulls(ledger.contributions(digest)),
        events=tuple(ledger.noted(study=digest)),
        figures=len(figures),
        audited=_audited(ledger),
        names=(by_name if named else by_letter)(receipts.rows, others),
        named=named,
        exact=exact,
    )


def _courses(study: Study, figures: list[tuple[int, str, Metric]]) -> dict[str, tuple[Course, ...]]:
    """By task: for each site its first metric, round by round, after its own training."""
    split = shown_split(study)
    found: dict[str, dict[str, dict[Stage, dict[int, tuple[float, float | None, float | None]]]]] = {}
    for number, site, metric in figures:
        if metric.split != split or metric.name != primary(study, metric.task):
            continue
        if metric.stage not in {Stage.TRAINED, Stage.ALONE}:
            continue
        own = found.setdefault(metric.task, {}).setdefault(site, {Stage.TRAINED: {}, Stage.ALONE: {}})
        own[metric.stage][number] = (metric.value, metric.low, metric.high)
    return {
        task: tuple(Course(site, own[Stage.TRAINED], own[Stage.ALONE]) for site, own in found[task].items())
        for task in study.tasks
        if task in found
    }


def _cosines(ledger: Ledger, digest: str) -> dict[tuple[str, str], float]:
    known = cosines_of(pair for pairs in ledger.pairs(digest).values() for pair in pairs)
    return {sites: fmean(values) for sites, values in sorted(known.items())}


def _pulls(given: Mapping[int, list[Contribution]]) -> tuple[Pull, ...]:
    known: dict[str, list[Contribution]] = {}
    for updates in given.values():
        for each in updates:
            known.setdefault(each.site, []).append(each)
    return tuple(
        Pull(
            site,
            len(own),
            median(each.norm for each in own),
            _mean([each.share for each in own]),
            _mean([each.agreement for each in own]),
            Counter(each.scale < 1 for each in own)[True],
        )
        for site, own in sorted(known.items())
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _audited(ledger: Ledger) -> Audited:
    """A broken chain is a finding to report, not a reason to report nothing."""
    number, head, wrong, checkpoints, contradiction = 0, "", "", 0, ""
    try:
        with ledger.engine.connect() as db:
            number, head = audit.verify(db)
    except Problem as problem:
        wrong = f"{problem.where}: {problem.found}"
    try:
        checkpoints = check_checkpoints(ledger)
    except Problem as problem:
        contradiction = f"{problem.where}: {problem.found}"
    return Audited(number, head, wrong, checkpoints, contradiction)
