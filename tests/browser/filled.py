"""A hub where every page has something to show: the usual story, a crowded study, drafts, encoders, people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polyward_server import coordination
from polyward_server.enrolment import Authority, invite, sign_approved
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.people import users
from polyward_server.records import Contribution, Event, Member, Pair, Round, Signals, State
from polyward_server.registry import Registry
from polyward_server.registry.catalogue import read_catalogue
from polyward_server.registry.lineage import lineage
from polyward_server.registry.release import Signer, release
from polyward_server.registry.tags import tag
from polyward_server.roster import Roster
from polyward_shared import pki
from polyward_shared.messages import Metric, Stage
from polyward_shared.states import write_state
from polyward_shared.study import Study
from tests.support.story import SCHEMA, story_study, tell
from tests.support.toy_trainer import toy_study

LONG = "university-hospital-of-the-northern-archipelago-and-its-islands"  # 63 characters, as long as a name may be
CROWD = {LONG: 52_310, **{f"clinic-{number:02d}": 30 + 61 * number for number in range(1, 50)}}
TASKS = {f"structure_{number:02d}": {"kind": "segmentation"} for number in range(1, 11)} | {
    "malignancy_of_the_largest_lesion": {"kind": "binary"},
    "ejection_fraction": {"kind": "regression"},
}


@dataclass(frozen=True, slots=True)
class Filled:
    """Where pages are found: digests of studies and of two encoders."""

    hub: Hub
    study: str
    crowded: str
    empty: str
    draft: str
    encoders: tuple[str, str]

    def pages(self) -> dict[str, str]:
        """Every page that an admin may open, by a name for it."""
        one, other = self.encoders
        return {
            "overview": "/",
            "study": f"/studies/{self.study}",
            "study-crowded": f"/studies/{self.crowded}",
            "study-empty": f"/studies/{self.empty}",
            "sites": "/sites",
            "registry": "/registry",
            "encoder": f"/registry/{other}",
            "comparison": f"/registry/compare?a={one}&b={other}",
            "audit": "/audit",
            "audit-chosen": "/audit?what=committed",
            "new": "/new",
            "draft": f"/new/{self.draft}",
            "people": "/people",
            "account": "/account",
            "refusal": "/studies/ffffffffffff",
        }


def filled(folder: Path) -> Filled:
    """Makes such a hub in `folder`."""
    hub = tell(folder / "hub")
    ledger = Ledger(hub.ledger)
    crowded = _crowded(ledger)
    draft = coordination.draft(ledger, toy_study(id="liver-lesions-second-reading"), "ada")
    empty = ledger.queue(toy_study(id="retina"))
    failed = ledger.queue(toy_study(id="chest-x-ray"))
    ledger.set_state(failed, State.FAILED, "fewer than 2 sites answered in 3 attempts at round 4")
    _people(ledger)
    encoders = _encoders(hub, ledger, folder)
    _requests(hub, ledger)
    ledger.close()
    return Filled(hub, story_study().digest(), crowded, empty, draft, encoders)


def crowded_study() -> Study:
    """Twelve tasks."""
    return toy_study(id="whole-body-atlas-of-fifty-hospitals", rounds=200, tasks=TASKS)


def _crowded(ledger: Ledger) -> str:
    """Fifty sites, of which one has the longest name; three rounds."""
    study, roster, draw = crowded_study(), Roster(ledger), np.random.default_rng(5)
    digest = ledger.queue(study)
    for name, samples in CROWD.items():
        roster.register(name, pki.public_key_pem(pki.new_key().public_key()))
        ledger.join(digest, Member(name, samples, dict.fromkeys(TASKS, samples), SCHEMA.to_json(), "polyward", True))
    ledger.set_state(digest, State.PAUSED)
    for number in range(4):
        state, encoder = f"{number:x}0" * 32, f"{number:x}e" * 32
        given = [
            Contribution(
                name, 1, samples, float(draw.uniform(0.5, 2)), state, 4_200_000, 4_200_000, 31.0, 40, 1.0, 0.02
            )
            for name, samples in CROWD.items()
        ]
        figures = [
            (name, Metric(task, "test", Stage.TRAINED, "dice", float(draw.uniform(0.6, 0.95)), 41, 0.55, 0.97))
            for name in CROWD
            for task in TASKS
        ]
        between = [
            Pair(one, other, float(draw.uniform(-0.4, 0.9)), 0.9) for one in CROWD for other in CROWD if one < other
        ]
        signals = Signals(0.9, 1.5, 0.35, 0.5, 40.0)
        committed = Round(number, state, encoder, 61.0, signals=signals)
        ledger.commit_round(digest, committed, given if number else (), figures if number else (), between)
    return digest


def _people(ledger: Ledger) -> None:
    with ledger.engine.begin() as db:
        for name, role in (
            ("ada", "admin"),
            ("grace.hopper@nordic-breast-network.example", "coordinator"),
            ("li", "viewer"),
        ):
            users.add(db, name, role, "correct horse battery", actor="test")
        users.disable(db, "li", actor="ada")


def _encoders(hub: Hub, ledger: Ledger, folder: Path) -> tuple[str, str]:
    """Two of them; the second has tags and is released."""
    made, registry, draw = [], Registry(hub.registry), np.random.default_rng(1)
    first = {name: draw.normal(size=shape).astype(np.float32) for name, shape in _shapes().items()}
    for number in (1, 2):
        path = folder / f"radimagenet-resnet-{number}.safetensors"
        write_state(path, {name: values * (1 + (number - 1) * draw.uniform()) for name, values in first.items()}, {})
        made.append(registry.import_file(path))
    catalogue = read_catalogue(ledger, registry)
    origin, told = catalogue.origins[made[1]], lineage(ledger, catalogue, made[1])
    for name in ("base", "best-so-far-of-all-that-we-tried-in-november"):
        tag(ledger, origin, name, actor="ada")
    signer = Signer(hub.file.name, pki.read_key(hub.key), *map(pki.read_certificate, (hub.certificate, hub.ca)))
    release(ledger, registry, told, origin, "breast-1.0", signer, notes="the first", sites=False, actor="ada")
    return made[0], made[1]


def _shapes() -> dict[str, tuple[int, ...]]:
    stages = {f"encoder.layers.{stage}.{block}.conv.weight": (8, 8, 3, 3) for stage in (1, 2, 3) for block in (1, 2)}
    return {"encoder.stem.weight": (8, 1, 3, 3), "encoder.stem.bias": (8,), **stages}


def _requests(hub: Hub, ledger: Ledger) -> None:
    """Two that ask, two that are invited, one with a certificate, one that is out; and things that went wrong."""
    roster = Roster(ledger)
    for name in ("tromso", f"{LONG[:-2]}-2"):
        roster.use(invite(hub, roster, name, hours=72, approved=False).token, _request(name))
    for name, approved in (("oulu", False), ("aarhus", True)):
        invite(hub, roster, name, hours=48, approved=approved, actor="ada")
    roster.use(invite(hub, roster, "turku", hours=72, approved=True).token, _request("turku"))
    sign_approved(roster, Authority(hub))
    roster.revoke("clinic-07", actor="ada")
    for site, what, detail in (("leiden", "refused", "policy.window"), (LONG, "failed", "trainer.memory")):
        ledger.note(Event(story_study().digest(), 12, site, what, detail))


def _request(name: str) -> str:
    return pki.new_request(name, pki.new_key()).decode()
