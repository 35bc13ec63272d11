"""What went wrong at which site: refusals, failures and oddities, gathered by site and kind, newest first."""

from __future__ import annotations

from datetime import datetime

from polyward_server.views.picture import Picture, moment
from polyward_shared.problems import Code
from polyward_shared.reading import Frozen

# What a code means at the hub, and what a coordinator can do: the site's own log alone says more.
MEANING: dict[str, tuple[str, str]] = {
    Code.MALFORMED_ORDER: ("its gate could not read the order", "compare the versions of hub and site"),
    Code.UNKNOWN_MESSAGE: ("its gate does not know this kind of order", "compare the versions of hub and site"),
    Code.STUDY_NOT_APPROVED: ("nobody there has approved this study", "send the site study.toml and ask for approval"),
    Code.WITHDRAWN: ("the site has left the study", "nothing; approving it again brings the site back"),
    Code.PAUSED: ("the site has paused its node", "nothing; it goes on when the site resumes"),
    Code.STATE_UNKNOWN: ("it lacks the state that the order starts from", "nothing; it is asked again with the whole"),
    Code.STATE_MISMATCH: ("its answer is about another state or form", "if it repeats, compare the versions"),
    Code.POLICY: ("the site's own rules do not allow it now", "ask the site: polyward-node show says which rule"),
    Code.DATA: ("its data do not fit the study", "ask the site to run polyward-node check --study"),
    Code.OUT_OF_MEMORY: ("its device is too small", "smaller batches, or another device at the site"),
    Code.DISK: ("its disk is full", "ask the site to make room"),
    Code.TRAINER_DIED: ("its training process ended", "ask the site for its log; it is asked again next round"),
    Code.TRAINING_FAILED: ("its training failed", "ask the site for its log; it is asked again next round"),
    Code.EGRESS_SCHEMA: ("its update has other arrays than the study's", "compare the versions; nothing was taken"),
    Code.EGRESS_NOT_FINITE: (
        "its update holds values that are no numbers",
        "lower the learning rate, look at its data",
    ),
    Code.EGRESS_NORM: ("its update is longer than the study allows", "look at its data; nothing was taken"),
    Code.EGRESS_METRIC: ("its report names figures that the study does not", "compare the versions; nothing was taken"),
    Code.CANCELLED: ("its work was ended by a person", "nothing"),
    Code.INTERNAL: ("a defect at the site", "ask the site for its log, and report it"),
    "late": ("it had not answered at the deadline", "look at the timeline; a longer deadline helps a slow site"),
    "away": ("it was not connected", "ask the site whether its node runs; it joins in by itself"),
}
OF_KINDS: dict[str, tuple[str, str]] = {
    "outlier": ("its update or its figures stand out", "look at its labels and units with the site; it still counts"),
    "shortened": ("its update was far longer than usual, and was cut", "look at its norms below"),
    "differs": ("it builds another first state than the others", "compare versions; it does not take part"),
    "lost": ("the connection was lost on the way", "nothing; it is asked again"),
    "withdrawn": ("the site has left the study", "nothing; approving it again brings the site back"),
    "defect": ("the hub met a defect of its own", "see the hub's log, and report it"),
    "failed": ("the study has failed", "mend what is named, then queue it again"),
}
UNKNOWN = ("a word that this hub does not know", "compare the versions of hub and site")
KINDS = ("refused", "misfit", "missed", *OF_KINDS)


class TroubleRow(Frozen):
    """One kind of trouble of one site, which its certificate named; "hub" for the hub's own."""

    site: str
    kind: str
    code: str  # or the last detail
    times: int
    first_round: int
    last_round: int
    first: datetime
    last: datetime
    meaning: str
    advice: str


class Troubles(Frozen):
    """Newest first."""

    rows: tuple[TroubleRow, ...]


def read_troubles(picture: Picture) -> Troubles:
    """Reads them from the study's picture."""
    found: dict[tuple[str, str, str], TroubleRow] = {}
    for noted, event in picture.told(*KINDS):
        code = "" if event.what in OF_KINDS else event.detail
        key, at = (event.site, event.what, code), moment(noted.at)
        before = found.pop(key, None)  # and back in at the end: the newest is last
        meaning, advice = MEANING.get(code, UNKNOWN) if code else OF_KINDS.get(event.what, UNKNOWN)
        found[key] = TroubleRow(
            site=event.site or "hub",
            kind=event.what,
            code=event.detail,
            times=before.times + 1 if before else 1,
            first_round=before.first_round if before else event.round,
            last_round=event.round,
            first=before.first if before else at,
            last=at,
            meaning=meaning,
            advice=advice,
        )
    return Troubles(rows=tuple(reversed(found.values())))
