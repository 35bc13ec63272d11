"""What every page needs: the hub's durable state, the templates, and the stream of changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jinja2

from polyward_server import words
from polyward_server.dashboard.verifying import Verifier
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.registry import Registry
from polyward_server.roster import Roster
from polyward_server.templates import environment
from polyward_server.views.picture import Pictures


@dataclass(frozen=True, slots=True)
class Desk:
    """One dashboard's means. Everything in it may be used from any thread."""

    hub: Hub
    ledger: Ledger
    roster: Roster
    registry: Registry
    verifier: Verifier
    templates: jinja2.Environment
    pictures: Pictures

    @classmethod
    def of(cls, hub: Hub) -> Desk:
        ledger = Ledger(hub.ledger)
        roster = Roster(ledger)
        return cls(
            hub,
            ledger,
            roster,
            Registry(hub.registry),
            Verifier(ledger),
            _templates(),
            Pictures(ledger, roster),
        )

    def html(self, template: str, **values: Any) -> str:
        return self.templates.get_template(template).render(
            hub=self.hub.file, alarm=self.verifier.found.problem, **values
        )


def _templates() -> jinja2.Environment:
    return environment(
        "polyward_server.dashboard",
        duration=words.duration,
        size=words.size,
        figure=words.figure,
        short=words.short,
        signed=words.signed,
        mark=words.mark,
    )
