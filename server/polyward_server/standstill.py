"""Why a study waits, as a line for people: who is away, who has not approved it, what sites refused."""

from __future__ import annotations

from collections.abc import Collection

from polyward_server.federation import Federation
from polyward_shared.problems import Code
from polyward_shared.study import Study

MOST_EVENTS = 2000  # of one turn; a refusal that lies further back explains nothing


def missing(study: Study, away: Collection[str]) -> str:
    """For a round that lacks those who are away; nothing when nobody is."""
    return f"away: {', '.join(sorted(away))}; quorum {study.participation.quorum}" if away else ""


def why_waiting(study: Study, federation: Federation, number: int) -> str:
    """For a round that had no quorum: the first of these that explains it.

    Sites that are away; sites that refused because nobody has approved the study there; whatever else they refused.
    """
    digest, quorum = study.digest(), study.participation.quorum
    known = set(federation.nodes()) | set(federation.ledger.members(digest))
    if len(known) < quorum:
        return f"{len(known)} of the hub's sites can take part, quorum {quorum}"
    present = federation.presence()
    away = {site for site in known if (here := present.get(site)) is None or not here.online}
    if len(known) - len(away) < quorum:
        return missing(study, away)
    refused = _refused(federation, digest, number)
    unapproved = {site for site, code in refused.items() if code == Code.STUDY_NOT_APPROVED}
    if len(known) - len(unapproved) < quorum:
        return f"{len(known) - len(unapproved)} of {len(known)} sites have approved, quorum {quorum}"
    said = ", ".join(f"{site}: {code}" for site, code in sorted(refused.items()))
    return said or (missing(study, away) if away else f"no quorum of {quorum} answered in time")


def _refused(federation: Federation, digest: str, number: int) -> dict[str, str]:
    """What sites refused since the last turn without a quorum."""
    refused: dict[str, str] = {}
    for noted in federation.ledger.noted(study=digest, last=MOST_EVENTS):
        event = noted.event
        if event.what == "waiting" and not event.site:
            refused.clear()
        elif event.round == number and event.what in {"refused", "misfit", "differs"}:
            refused[event.site] = event.detail if event.what == "refused" else event.what
    return refused
