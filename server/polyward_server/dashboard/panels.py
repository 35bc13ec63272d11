"""The panels: each is one view, drawn into a page, kept current there, and read by programs as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from polyward_server.dashboard.desk import Desk
from polyward_server.people.users import Role
from polyward_server.views import (
    audit,
    conflict,
    curves,
    drift,
    encoders,
    gain,
    matrix,
    overview,
    people,
    privacy,
    sites,
    study,
    tail,
    timeline,
    troubles,
)
from polyward_shared.reading import Frozen

EVENTS, CONTACTS = "events", "contacts"  # what may change: the ledger's events, what sites say of themselves
ROUNDS = "rounds"  # what committed rounds tell, which changes more seldom
RECORD = "record"  # what was found when the record of events was last gone through

FORMULAS = frozenset("=+-@|\t\r\n\uff1d\uff0b\uff0d\uff20")  # how a spreadsheet's formulas begin, also in wide letters

Choice = tuple[tuple[str, str], ...]  # names and values of a page's address


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel of a page. `read` takes the digest of the page's study, or "" on pages of the whole hub.

    `choices` are names in the page's address by which people choose what it shows; `read` takes them as keywords.

    Its template is `panels/NAME.html`, which is given `panel`, `view` (what `read` returned), `study` and `role`.
    """

    name: str
    title: str
    model: type[Frozen]
    read: Callable[..., Frozen]
    choices: tuple[str, ...] = ()
    topics: frozenset[str] = frozenset({EVENTS})
    role: Role = "viewer"  # that one must have to see it


HUB_PANELS: dict[str, tuple[Panel, ...]] = {
    "overview": (
        Panel(
            name="studies",
            title="Studies",
            model=overview.Overview,
            read=lambda desk, _: overview.read_overview(desk.ledger),
            topics=frozenset({EVENTS, CONTACTS}),
        ),
    ),
    "sites": (
        Panel(
            name="requests",
            title="Asking to join",
            model=sites.Requests,
            read=lambda desk, _: sites.read_requests(desk.roster),
        ),
        Panel(
            name="sites",
            title="Sites",
            model=sites.Sites,
            read=lambda desk, _: sites.read_sites(desk.ledger),
            topics=frozenset({EVENTS, CONTACTS}),
        ),
        Panel(
            name="invitations",
            title="Open invitations",
            model=sites.Invitations,
            read=lambda desk, _: sites.read_invitations(desk.roster),
        ),
    ),
    "registry": (
        Panel(
            name="encoders",
            title="Encoders",
            model=encoders.Encoders,
            read=lambda desk, _: encoders.read_encoders(desk.ledger, desk.registry),
        ),
    ),
    "audit": (
        Panel(
            name="integrity",
            title="Is the record whole?",
            model=audit.Integrity,
            read=lambda desk, _: desk.verifier.found,
            topics=frozenset({RECORD}),
        ),
        Panel(
            name="events",
            title="Events",
            model=audit.Events,
            read=lambda desk, _: audit.read_events(desk.ledger, audit.Wanted()),
        ),
    ),
    "people": (
        Panel(
            name="people",
            title="People",
            model=people.People,
            read=lambda desk, _: people.read_people(desk.ledger),
            role="admin",
        ),
        Panel(
            name="sessions",
            title="Signed in now",
            model=people.Sessions,
            read=lambda desk, _: people.read_sessions(desk.ledger),
            role="admin",
        ),
    ),
}
ALARM = Panel(  # above every page
    name="alarm",
    title="Alarm",
    model=audit.Integrity,
    read=lambda desk, _: desk.verifier.found,
    topics=frozenset({RECORD}),
)


def _of(read: Callable[..., Frozen]) -> Callable[..., Frozen]:
    """A reader of a study's picture, for a panel."""
    return lambda desk, digest, **choice: read(desk.pictures.look(digest), **choice)


STUDY_PANELS: tuple[Panel, ...] = (
    Panel(
        name="head",
        title="Where it stands",
        model=study.StudyHead,
        read=_of(study.read_head),
        topics=frozenset({EVENTS, CONTACTS}),
    ),
    Panel(
        name="matrix",
        title="Sites and tasks",
        model=matrix.Matrix,
        read=_of(matrix.read_matrix),
        topics=frozenset({EVENTS, CONTACTS}),
    ),
    Panel(
        name="timeline",
        title="The round in time",
        model=timeline.Timeline,
        read=_of(timeline.read_timeline),
        choices=("round",),
        topics=frozenset({EVENTS, CONTACTS}),
    ),
    Panel(
        name="curves",
        title="Curves",
        model=curves.Curves,
        read=_of(curves.read_curves),
        choices=("task", "metric", "split", "stage"),
        topics=frozenset({ROUNDS}),
    ),
    Panel(
        name="gain",
        title="Gain over training alone",
        model=gain.Gains,
        read=_of(gain.read_gain),
        topics=frozenset({ROUNDS}),
    ),
    Panel(
        name="conflict",
        title="Do updates agree?",
        model=conflict.Conflict,
        read=_of(conflict.read_conflict),
        topics=frozenset({ROUNDS}),
    ),
    Panel(
        name="updates",
        title="Lengths of updates",
        model=drift.Updates,
        read=_of(drift.read_updates),
        topics=frozenset({ROUNDS}),
    ),
    Panel(
        name="drift",
        title="The encoder's way",
        model=drift.Drift,
        read=_of(drift.read_drift),
        topics=frozenset({ROUNDS}),
    ),
    Panel(
        name="privacy",
        title="What leaves each site",
        model=privacy.Privacy,
        read=_of(privacy.read_privacy),
    ),
    Panel(
        name="troubles",
        title="Refusals and errors",
        model=troubles.Troubles,
        read=_of(troubles.read_troubles),
    ),
    Panel(
        name="tail",
        title="Last events",
        model=tail.Tail,
        read=_of(tail.read_tail),
    ),
)


def panels_of(page: str) -> tuple[Panel, ...]:
    """The panels of a page, from top to bottom. Raises `KeyError` for a page that is not there."""
    return STUDY_PANELS if page == "study" else HUB_PANELS[page]


def chosen(panel: Panel, given: Mapping[str, str]) -> dict[str, str]:
    """What of an address a panel is about."""
    return {name: given[name] for name in panel.choices if given.get(name)}


def drawn(desk: Desk, panel: Panel, study: str, role: str, choice: Choice = ()) -> str:
    """The panel as HTML."""
    view = panel.read(desk, study, **chosen(panel, dict(choice)))
    return desk.html(f"panels/{panel.name}.html", panel=panel, view=view, study=study, role=role)


def as_csv(view: Frozen) -> str:
    """The rows of a view, a column for each field; what has parts of its own is left to JSON."""
    rows: list[dict[str, Any]] = [row.model_dump(mode="json") for row in getattr(view, "rows", ())]
    text = io.StringIO()
    columns = [name for name in rows[0] if not any(isinstance(row[name], dict | list) for row in rows)] if rows else []
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows({key: harmless(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def harmless(value: Any) -> Any:
    """A cell that a spreadsheet would take for a formula is marked as text.

    No cell has a carriage return: `csv` does not quote it, and a spreadsheet begins a new row there.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")
    return f"'{text}" if text.lstrip(" ")[:1] in FORMULAS else text
