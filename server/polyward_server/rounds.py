"""A study from its first state to its last round, over any Flower `Grid`.

The ledger is the truth: whatever was killed, calling `run_study` again goes on after the last committed round. Sites
keep their finished update of a round, so a round that is asked again costs no second training.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from polyward_server.aggregate import clip
from polyward_server.aggregate.weights import Labels, site_weights
from polyward_server.attendance import chosen
from polyward_server.attribution import standing_out
from polyward_server.combine import diagnosed, drift, next_state
from polyward_server.exchange import Left, Patience
from polyward_server.federation import Federation
from polyward_server.gather import Gathering, Weights, is_foreseen, place_of
from polyward_server.joining import admit, begin
from polyward_server.orders import Orders
from polyward_server.records import Contribution, Event, Member, Round
from polyward_server.shared_state import Shared, group_of_key, keep_memory, load, taskset_variants
from polyward_server.signals import attributed, pairs_of, signals
from polyward_server.standstill import missing, why_waiting
from polyward_shared.messages import OF_THE_FEDERATED_MODEL, Kind, Report, stages_of
from polyward_shared.problems import Code, Problem
from polyward_shared.schema import ENCODER, PRECISION, STATISTICS, Schema
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS

RETRY_SECONDS = 2.0  # before a round without a quorum is asked again; twice as long after each turn
LONGEST_RETRY_SECONDS = 60.0
LOOK_SECONDS = 0.2  # meanwhile, between looks whether somebody came or went
OF_THE_ENCODER = frozenset({ENCODER, PRECISION, STATISTICS})


def run_study(study: Study, federation: Federation) -> bool:
    """Runs the study from where it stands; True when it is finished, False when it was stopped or left.

    Raises whatever the grid raises when the way to the sites is lost; call again with a new grid. Raises `Problem` when
    a round had no quorum as many times as the federation tries.
    """
    try:
        return _run(study, federation)
    except Left:
        return False


def _run(study: Study, federation: Federation) -> bool:
    digest, ledger = study.digest(), federation.ledger
    federation.goes_on(digest)
    last = ledger.last_round(digest)
    missed = 0  # turns in succession without a quorum
    while last is None:
        if federation.stopped():
            return False
        last = begin(study, federation)
        if last is None:
            missed += 1
            _wait(study, federation, 0, missed)
    if missed:
        federation.goes_on(digest)
    shared = load(federation.registry, last)
    held: dict[str, str] = {}
    missed = 0
    asked = dict.fromkeys(_settled(ledger.members(digest), shared), time.monotonic())
    while last.number < study.rounds:
        if federation.stopped():
            return False
        admit(study, federation, shared, asked)
        done = _round(study, federation, shared, last, held)
        if done is None:
            missed += 1
            _wait(study, federation, last.number + 1, missed)
            continue
        if missed:
            federation.goes_on(digest)
        (shared, last), missed = done, 0
    _finish(study, federation, shared, last, held)
    return True


def _wait(study: Study, federation: Federation, number: int, missed: int) -> None:
    """Says that the quorum was missed and why, and waits for people to mend it; or gives up."""
    why = why_waiting(study, federation, number)
    if federation.stopped():
        return
    federation.waits(study.digest(), why)
    if federation.tries is not None and missed >= federation.tries:
        raise Problem(
            f"{study.id}, round {number}",
            f"no quorum in {missed} turns ({why})",
            expected=f"answers of {study.participation.quorum} sites",
            remedy="the sites' logs say more than these codes; mend it and run again, finished work is kept",
        )
    if _pause(study, federation, min(RETRY_SECONDS * 2 ** min(missed - 1, 16), LONGEST_RETRY_SECONDS)):
        federation.goes_on(study.digest())


def _pause(study: Study, federation: Federation, seconds: float) -> bool:
    """Waits for so long, or until a site comes, goes or approves the study, which is True, or the study is stopped."""

    def seen() -> tuple[set[str], set[str]]:
        return set(_online(federation, federation.nodes())), set(federation.ledger.approvals(study.digest()))

    before, until = seen(), time.monotonic() + seconds
    while time.monotonic() < until and not federation.stopped():
        if seen() != before:
            return True
        federation.came_round(seconds)
        time.sleep(min(LOOK_SECONDS, seconds))
    return False


def _round(
    study: Study, federation: Federation, shared: Shared, last: Round, held: dict[str, str]
) -> tuple[Shared, Round] | None:
    """One round, committed; None when no quorum answered."""
    began = time.monotonic()
    digest, number = study.digest(), last.number + 1
    members = federation.members(digest)
    schemas = _schemas(members, shared)
    if study.sharing.branches == "taskset":
        shared.variants = taskset_variants(study, members)
    asked = chosen(study, {site: members[site] for site in schemas}, _online(federation, schemas), number)
    schemas = {site: schemas[site] for site in asked}
    ask = Orders(study, federation, shared, schemas, held, Kind.TRAIN, number)
    earlier = federation.ledger.contributions(digest)
    gathered = Gathering(
        study,
        shared,
        schemas,
        _weights(study, members, ask),
        {site: members[site].counts.keys() for site in asked},
        clip.usual([each.norm for each in earlier.get(last.number, [])]),
        federation.registry.folder / f".round-{digest[:16]}",
    )

    def enough(_: set[str]) -> bool:
        return _quorum(study, set(gathered.given), members)  # an answer that was misfit does not count

    watch = _watch(study, federation, lambda here: _quorum(study, gathered.given.keys() | here, members))
    exchange = federation.exchange(digest, number, ask, watch)
    stages = stages_of(Kind.TRAIN, study.personal)
    try:
        for answer in exchange.answers(asked, enough=enough, patience=Patience.of(study.participation)):
            code = gathered.take(answer, ask, stages)
            if code is not None:
                exchange.refuse(answer.site, code)
            elif answer.report is not None:
                federation.ledger.note(Event(digest, number, answer.site, "reported", _headline(study, answer.report)))
        if not enough(set()):
            return None
        return _committed(study, federation, shared, gathered, ask, earlier, number, began)
    finally:
        gathered.close()


def _committed(
    study: Study,
    federation: Federation,
    shared: Shared,
    gathered: Gathering,
    ask: Orders,
    earlier: Mapping[int, Sequence[Contribution]],
    number: int,
    began: float,
) -> tuple[Shared, Round]:
    """The next state, on the disk and in the ledger, with what the updates say together."""
    digest, registry = study.digest(), federation.registry
    gathered.shorten()
    found = diagnosed(gathered)
    following = next_state(study, shared, gathered, number)
    following.before = dict(ask.digests)
    schema, flat = following.whole()
    state = registry.add(schema, flat, {"study": digest, "round": str(number)})
    first = federation.ledger.rounds(digest)[0].state
    committed = Round(
        number,
        state,
        following.schemas[ENCODER].state_digest(following.groups[ENCODER]),
        time.monotonic() - began,
        keep_memory(registry, following.memory, digest, number),
        following.variants,
        signals(found, drift(following.schemas[ENCODER].views(following.groups[ENCODER]), registry.views(first))),
    )
    for site, each in gathered.given.items():
        if each.scale < 1:
            federation.ledger.note(Event(digest, number, site, "shortened", f"to {each.scale:.3f} of its length"))
    tasksets = {site: frozenset(member.counts) for site, member in federation.ledger.members(digest).items()}
    before = [{each.site: each.agreement for each in earlier[past]} for past in sorted(earlier)]
    norms = {site: each.norm for site, each in gathered.given.items()}
    for site, why in standing_out(found, norms, before, tasksets, study.tasks, gathered.figures).items():
        federation.ledger.note(Event(digest, number, site, "outlier", why))
    given = attributed(gathered.given, found)
    federation.ledger.commit_round(digest, committed, given, gathered.figures, pairs_of(found), federation.fence)
    return following, committed


def _finish(study: Study, federation: Federation, shared: Shared, last: Round, held: dict[str, str]) -> None:
    """Every site tunes its branches on the last state and measures; nothing is aggregated."""
    digest = study.digest()
    members = federation.members(digest)
    schemas = _schemas(members, shared)
    ask = Orders(study, federation, shared, schemas, held, Kind.FINISH, last.number)
    given: set[str] = set()

    def enough(answered: set[str]) -> bool:
        return _quorum(study, answered, members)

    watch = _watch(study, federation, lambda here: enough(given | here))
    exchange = federation.exchange(digest, last.number, ask, watch)

    stages = stages_of(Kind.FINISH, study.personal)
    for answer in exchange.answers(sorted(schemas), enough=enough, patience=Patience.of(study.participation)):
        report = answer.report
        if report is None:
            continue
        given.add(answer.site)
        if not ask.is_answered_by(report, answer.site):
            exchange.refuse(answer.site, Code.STATE_MISMATCH)
        elif is_foreseen(study, report, stages, members[answer.site].counts):
            happened = Event(digest, last.number, answer.site, "finished", _headline(study, report))
            federation.ledger.conclude(happened, report.kept, report.metrics)
        else:
            exchange.refuse(answer.site, Code.EGRESS_METRIC)


def _schemas(members: Mapping[str, Member], shared: Shared) -> dict[str, Schema]:
    """What each member shares, of those whose arrays are all here."""
    schemas = {site: Schema.from_json(member.schema) for site, member in members.items()}
    return {site: schema for site, schema in schemas.items() if not shared.lacks(schema)}


def _settled(members: Mapping[str, Member], shared: Shared) -> list[str]:
    """All but those whose arrays are not here: a hub killed after a latecomer joined lost them, and it joins again."""
    return [
        s for s, member in members.items() if not member.agrees or not shared.lacks(Schema.from_json(member.schema))
    ]


def _online(federation: Federation, sites: Iterable[str]) -> set[str]:
    known = federation.presence()
    return {site for site in sites if (here := known.get(site)) is not None and here.online}


def _watch(
    study: Study, federation: Federation, possible: Callable[[set[str]], bool]
) -> Callable[[set[str], set[str]], None]:
    """Says that the study waits while those who are here cannot make a quorum `possible`, and that it goes on."""
    told = ""

    def watch(here: set[str], away: set[str]) -> None:
        nonlocal told
        why = "" if possible(here) else missing(study, away)
        if why and why != told:
            federation.waits(study.digest(), why)
        elif told and not why:
            federation.goes_on(study.digest())
        told = why

    return watch


def _weights(study: Study, members: Mapping[str, Member], ask: Orders) -> Weights:
    """By place and site; what belongs to the encoder counts as the encoder does."""
    places: dict[str, dict[str, Labels]] = {}
    for site, keys in ask.keys.items():
        for key in keys:
            labels = Labels(members[site].samples, members[site].counts)
            places.setdefault(place_of(study, key), {})[site] = labels
    return {
        place: site_weights(study, ENCODER if (group := group_of_key(place)) in OF_THE_ENCODER else group, sites)
        for place, sites in places.items()
    }


def _quorum(study: Study, answered: set[str], members: Mapping[str, Member]) -> bool:
    """Enough sites, and enough owners of every task for which the study asks so."""
    owners = Counter(task for site in answered for task in members[site].counts)
    rule = study.participation
    return len(answered) >= rule.quorum and all(owners[task] >= n for task, n in rule.task_quorum.items())


def _headline(study: Study, report: Report) -> str:
    """The federated model's first metric of each task on the test split, for people who watch."""
    shown: dict[str, str] = {}
    for metric in report.metrics:
        federated = metric.split == "test" and metric.stage in OF_THE_FEDERATED_MODEL
        if federated and metric.name == METRICS[study.tasks[metric.task].kind][0]:
            ends = "" if metric.low is None else f" [{metric.low:.3f}, {metric.high:.3f}]"
            shown[metric.task] = f"{metric.task} {metric.name} {metric.value:.3f}{ends} (n={metric.count})"
    return ", ".join(shown[task] for task in sorted(shown))
