"""A study's ledger, written by hand: every number that a view shows can be read off the test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from polyward_server.contacts import Contact, keep_contacts
from polyward_server.ledger import Ledger
from polyward_server.records import Contribution, Event, Member, Pair, Round, Signals, State
from polyward_server.roster import Roster
from polyward_server.tables import approvals
from polyward_server.told import Span, keep_spans
from polyward_server.views.picture import Picture, Pictures
from polyward_shared import pki
from polyward_shared.messages import Kept, Metric, Stage
from polyward_shared.schema import Schema
from tests.support.toy_trainer import toy_study

STUDY = toy_study(
    id="by-hand",
    rounds=20,
    tasks={"grade": {"kind": "binary"}, "size": {"kind": "regression"}, "mask": {"kind": "segmentation"}},
)
DIGEST = STUDY.digest()
SCHEMA = Schema.of({"encoder.w": np.zeros((2, 3), np.float32), "encoder.b": np.zeros(3, np.float32)})
FIRST = {"grade": "auroc", "size": "mae", "mask": "dice"}


class ByHand:
    """The ledger; `pictures` are kept between looks as the dashboard keeps them."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.roster = Roster(self.ledger)
        self.pictures = Pictures(self.ledger, self.roster)
        self.ledger.queue(STUDY)

    def look(self) -> Picture:
        return self.pictures.look(DIGEST)

    def anew(self) -> Picture:
        """As one sees it who has never looked before."""
        return Pictures(self.ledger, self.roster).look(DIGEST)

    def site(self, name: str, *, approved: bool = True) -> None:
        self.roster.register(name, pki.public_key_pem(pki.new_key().public_key()))
        if approved:
            with self.ledger.engine.begin() as db:
                db.execute(approvals.insert().values(study=DIGEST, site=name, at="2026-11-20T09:00:00.000+00:00"))

    def joins(self, name: str, **counts: int) -> None:
        self.ledger.join(DIGEST, Member(name, max(counts.values()), counts, SCHEMA.to_json(), "polyward 0.1.0", True))
        self.note(0, name, "joined")

    def starts(self) -> None:
        self.ledger.set_state(DIGEST, State.RUNNING)
        self.note(0, "", "started")
        self.ledger.commit_round(DIGEST, Round(0, "a" * 64, "b" * 64, 0.0))

    def note(self, number: int, site: str, what: str, detail: str = "") -> None:
        self.ledger.note(Event(DIGEST, number, site, what, detail))

    def concludes(self, number: int, site: str, models: Mapping[str, Kept], *figures: Metric) -> None:
        self.ledger.conclude(Event(DIGEST, number, site, "finished"), models, figures)

    def commits(
        self,
        number: int,
        norms: Mapping[str, float],
        figures: list[tuple[str, Metric]] | None = None,
        cosines: Mapping[tuple[str, str], float] | None = None,
        signals: Signals | None = None,
    ) -> None:
        given = [
            Contribution(site, 1, 100, norm, "c" * 64, 36, 40, 2.0, 7, 1.0, 1 / len(norms), None)
            for site, norm in norms.items()
        ]
        pairs = [Pair(one, other, cosine, 1.0) for (one, other), cosine in (cosines or {}).items()]
        done = Round(number, f"{number:064}", f"{number:064}", 10.0, signals=signals or Signals())
        self.ledger.commit_round(DIGEST, done, given, figures or [], pairs)

    def worked(self, number: int, site: str, *phases: tuple[str, float, float]) -> None:
        keep_spans(self.ledger, {(DIGEST, number, site): [Span(*phase) for phase in phases]})

    def heard(self, site: str, at: float, *, connected: bool = True, **status: object) -> None:
        keep_contacts(self.ledger, Contact(site, connected, at, at, "polyward 0.2.0", status))


def figure(task: str, value: float, cases: int = 50, *, stage: Stage = Stage.TRAINED, split: str = "test") -> Metric:
    return Metric(task, split, stage, FIRST[task], value, cases)
