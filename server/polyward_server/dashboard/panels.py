"""The panels: each is one view, drawn into a page, kept current there, and read by programs as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from polyward_server.dashboard.desk import Desk
from polyward_server.views import overview
from polyward_shared.reading import Frozen

EVENTS, CONTACTS = "events", "contacts"  # what may change: the ledger's events, what sites say of themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel of a page. `read` takes the digest of the page's study, or "" on pages of the whole hub.

    Its template is `panels/NAME.html`, which is given `panel`, `view` (what `read` returned), `study` and `role`.
    """

    name: str
    title: str
    model: type[Frozen]
    read: Callable[[Desk, str], Frozen]
    topics: frozenset[str] = frozenset({EVENTS})


HUB_PANELS: dict[str, tuple[Panel, ...]] = {
    "overview": (
        Panel(
            name="studies",
            title="Studies",
            model=overview.Overview,
            read=lambda desk, _: overview.read_overview(desk.ledger, desk.roster),
            topics=frozenset({EVENTS, CONTACTS}),
        ),
    ),
}
STUDY_PANELS: tuple[Panel, ...] = ()


def panels_of(page: str) -> tuple[Panel, ...]:
    """The panels of a page, from top to bottom. Raises `KeyError` for a page that is not there."""
    return STUDY_PANELS if page == "study" else HUB_PANELS[page]


def drawn(desk: Desk, panel: Panel, study: str, role: str) -> str:
    """The panel as HTML."""
    return desk.html(f"panels/{panel.name}.html", panel=panel, view=panel.read(desk, study), study=study, role=role)


def as_csv(view: Frozen) -> str:
    """The rows of a view, a column for each field; what has parts of its own is left to JSON."""
    rows: list[dict[str, Any]] = [row.model_dump(mode="json") for row in getattr(view, "rows", ())]
    text = io.StringIO()
    columns = [name for name in rows[0] if not any(isinstance(row[name], dict | list) for row in rows)] if rows else []
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows({key: _harmless(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """A cell that a spreadsheet would take for a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
