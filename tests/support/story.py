"""A hub's ledger with a study in mid-run, as a real one leaves it: four sites, three tasks, many rounds, one refusal.

The figures are made up (from a seed) and say nothing of anything; they have the shape and the order of real ones.
"""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path

import numpy as np

from polyward_server import coordination
from polyward_server.contacts import Contact, keep_contacts
from polyward_server.hub import Hub, init
from polyward_server.ledger import Ledger
from polyward_server.records import Contribution, Event, Member, Pair, Round, Signals, State
from polyward_server.roster import Roster
from polyward_server.tables import approvals, spans
from polyward_shared import pki
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Code
from polyward_shared.schema import Schema
from polyward_shared.study import Study
from tests.support.hub import free_port
from tests.support.toy_trainer import toy_study

SITES = {"bergen": 412, "leiden": 187, "porto": 1290, "uppsala": 64}
HOLDS = {
    "bergen": ("mask", "grade"),
    "leiden": ("mask", "size"),
    "porto": ("mask", "grade", "size"),
    "uppsala": ("grade",),
}
FIGURE = {"mask": "dice", "grade": "auroc", "size": "mae"}
ARRAYS = {"encoder.stem.weight": (8, 1, 3, 3), "encoder.stem.bias": (8,)}
SCHEMA = Schema.of({name: np.zeros(shape, np.float32) for name, shape in ARRAYS.items()})
PHASES = {"fetching": 1.2, "training": 20.0, "measuring": 4.0, "checking": 0.3, "sending": 2.1}  # seconds
GPU = {"model": "NVIDIA L4", "memory_used": 9_000_000_000, "memory_total": 24_000_000_000, "busy": 0.87}


def story_study(**changes: object) -> Study:
    """The study that the story is about."""
    tasks = {"mask": {"kind": "segmentation"}, "grade": {"kind": "binary"}, "size": {"kind": "regression"}}
    return toy_study(**{"id": "breast-demo", "rounds": 24, "tasks": tasks, **changes})


def tell(folder: Path, *, rounds: int = 12, seed: int = 0, sites: dict[str, int] | None = None) -> Hub:
    """Makes a hub in `folder` whose study has come so far, round by round, with everything that pages show."""
    hub = init(
        folder,
        name="Nordic breast network",
        host="127.0.0.1",
        port=free_port(),
        control_port=free_port(),
        dashboard_port=free_port(),
    )
    ledger = Ledger(hub.ledger)
    fill(ledger, rounds=rounds, seed=seed, sites=sites)
    ledger.close()
    return hub


def fill(
    ledger: Ledger,
    *,
    rounds: int = 12,
    seed: int = 0,
    sites: dict[str, int] | None = None,
    state: State = State.RUNNING,
) -> str:
    """Writes the story into the ledger, registering sites that are not yet known there; the study's digest.

    As a draft it is safe from the runner of a hub that is being served.
    """
    study = story_study()
    digest = ledger.queue(study) if state is State.RUNNING else coordination.draft(ledger, study, "story")
    roster, draw = Roster(ledger), np.random.default_rng(seed)
    sites = sites or SITES
    for name, samples in sites.items():
        _site(ledger, roster, digest, name, samples)
    if state is State.RUNNING:
        ledger.set_state(digest, State.RUNNING)
    ledger.commit_round(digest, Round(0, _sha("state", 0), _sha("encoder", 0), 0.0))
    for number in range(1, rounds + 1):
        one_round(ledger, digest, number, sites, draw)
    for name in sites:
        ledger.note(Event(digest, rounds + 1, name, "asked", "attempt 1"))
    return digest


def _site(ledger: Ledger, roster: Roster, digest: str, name: str, samples: int) -> None:
    known = roster.keys()
    if name not in known:
        roster.register(name, pki.public_key_pem(pki.new_key().public_key()))
    counts = {task: max(5, samples // (1 + place)) for place, task in enumerate(_tasks(name))}
    software = "polyward 0.1.0, flwr 1.41.0, python 3.11.2"
    ledger.join(digest, Member(name, samples, counts, SCHEMA.to_json(), software, True))
    ledger.note(Event(digest, 0, name, "joined", ", ".join(f"{task}: {n}" for task, n in counts.items())))
    with ledger.engine.begin() as db:
        db.execute(approvals.insert().values(study=digest, site=name, at="2026-11-20T09:00:00.000+00:00"))
    status = {
        "state": "working",
        "work": {"study": digest, "round": 13, "phase": "training", "done": 1, "of": 2},
        "machine": {
            "cpu": 0.42,
            "memory_used": 21_000_000_000,
            "memory_total": 64_000_000_000,
            "disk_free": 800_000_000_000,
            "gpus": [GPU],
        },
        "refusals": {},
    }
    keep_contacts(ledger, Contact(name, name != "uppsala", time.time(), time.time(), software, status))


def one_round(ledger: Ledger, digest: str, number: int, sites: dict[str, int], draw: np.random.Generator) -> None:
    """Commits a round with figures of every site."""
    given, figures, between, began = [], [], [], time.time() - (13 - number) * 95
    for place, (name, samples) in enumerate(sites.items()):
        if name == "uppsala" and number % 5 == 0:
            ledger.note(Event(digest, number, name, "missed", "away"))
            continue
        ledger.note(Event(digest, number, name, "asked", "attempt 1"))
        seconds = 20.0 + 9 * place + draw.uniform(0, 6)
        with ledger.engine.begin() as db:
            start = began
            for phase, length in {**PHASES, "training": seconds}.items():
                values = {"study": digest, "round": number, "site": name, "phase": phase}
                db.execute(spans.insert().values(**values, began=start, seconds=length))
                start += length
        norm = 2.0 / math.sqrt(number) * draw.uniform(0.8, 1.2)
        share, agreement = 1 / len(sites), float(draw.uniform(-0.1, 0.7))
        size, digest_up = 4_200_000, _sha(name, number)
        given.append(Contribution(name, 1, samples, norm, digest_up, size, size, seconds, 40, 1.0, share, agreement))
        ledger.note(Event(digest, number, name, "reported", "mask dice 0.7 (n=31)"))
        for task in _tasks(name):
            figures += [(name, figure) for figure in _figures(task, number, samples, place, draw)]
    names = [each.site for each in given]
    between = [
        Pair(one, other, float(draw.uniform(-0.3, 0.8)), float(draw.uniform(0.6, 1)))
        for one in names
        for other in names
        if one < other
    ]
    if number == 4:
        ledger.note(Event(digest, number, "leiden", "refused", Code.POLICY))
    if number == 7:
        ledger.note(Event(digest, number, "uppsala", "outlier", "its update is 5.1 times as long as the middle one"))
    signals = Signals(0.9 / number, 1.5 * math.log1p(number), 0.35, 0.5, float(len(names)) * 0.8)
    committed = Round(number, _sha("state", number), _sha("encoder", number), 61.0, signals=signals)
    ledger.commit_round(digest, committed, given, figures, between)


def _figures(task: str, number: int, samples: int, place: int, draw: np.random.Generator) -> list[Metric]:
    best = 1 - math.exp(-number / 5)
    rows = []
    for stage, less in ((Stage.TRAINED, 0.0), (Stage.ALONE, 0.05 - 0.03 * place)):
        value = 0.45 + 0.4 * best - less + float(draw.normal(0, 0.012))
        value = 14 - 8 * value if task == "size" else value
        count, most = max(5, samples // 6), math.inf if task == "size" else 1.0
        low, high = value - 0.7 / math.sqrt(count), min(most, value + 0.7 / math.sqrt(count))
        rows.append(Metric(task, "test", stage, FIGURE[task], value, count, low, high))
    return rows


def _tasks(name: str) -> tuple[str, ...]:
    return HOLDS.get(name, ("mask", "grade"))


def _sha(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
