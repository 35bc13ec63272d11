"""A registry whose every number is known: a pilot from a seed, and a study with shared branches that follows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from polyward_server.database import Where
from polyward_server.ledger import Ledger
from polyward_server.records import Contribution, Member, Round
from polyward_server.registry import Registry
from polyward_server.registry.catalogue import Brought, Catalogue, Made, read_catalogue
from polyward_server.registry.lineage import Lineage, lineage
from polyward_server.registry.release import Signer, release
from polyward_shared import pki
from polyward_shared.messages import Metric, Stage
from polyward_shared.releases import Release
from polyward_shared.schema import ENCODER
from polyward_shared.study import Study
from tests.support.toy_trainer import first_state, toy_schema, toy_study

PILOT = toy_study(id="pilot", seed=5, rounds=2)
ENCODER_ALONE = toy_schema(PILOT, ("mask",))
FIRST = first_state(ENCODER_ALONE)


def dice(stage: Stage, value: float, split: str = "test") -> Metric:
    return Metric("mask", split, stage, "dice", value, 30)


def given(site: str, weight: int, share: float) -> Contribution:
    return Contribution(site, 1, weight, 1.0, "0" * 64, 1, 1, 1.0, share=share)


@dataclass(frozen=True)
class Shelf:
    """`pilot` are the states of its rounds 0, 1, 2; `branched` those of the rounds 0, 1 of the study that follows."""

    ledger: Ledger
    registry: Registry
    pilot: list[str]
    following: Study
    branched: list[str]
    encoders: list[str]  # of `branched`, alone

    @property
    def catalogue(self) -> Catalogue:
        return read_catalogue(self.ledger, self.registry)

    def origin(self, state: str) -> Made | Brought:
        return self.catalogue.origins[state]

    def lineage(self, state: str) -> Lineage:
        return lineage(self.ledger, self.catalogue, state)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = filled(tmp_path / "ledger.db", tmp_path / "registry")
    yield made
    made.ledger.close()


@pytest.fixture
def either(where: Where, tmp_path: Path) -> Iterator[Shelf]:
    """The same, once on each database."""
    made = filled(where, tmp_path / "registry")
    yield made
    made.ledger.close()


def filled(where: Where, folder: Path) -> Shelf:
    ledger, registry = Ledger(where), Registry(folder)
    pilot = [registry.add(ENCODER_ALONE, FIRST + number, {"round": str(number)}) for number in range(3)]
    ledger.queue(PILOT)
    for site, samples, count in (("north", 40, 30), ("south", 8, 8)):
        ledger.join(PILOT.digest(), Member(site, samples, {"mask": count}, "[]", "", agrees=True))
    for number, contributions, figures in (
        (0, [], []),
        (1, [given("north", 30, 0.7), given("south", 10, 0.3)], [("north", dice(Stage.TRAINED, 0.5))]),
        (
            2,
            [given("north", 30, 1.0)],
            [
                ("north", dice(Stage.RECEIVED, 0.625)),
                ("north", dice(Stage.TRAINED, 0.75)),
                ("south", dice(Stage.TRAINED, 0.25)),
                ("north", dice(Stage.TRAINED, 0.8, "val")),
                ("north", dice(Stage.ALONE, 0.9)),
            ],
        ),
    ):
        ledger.commit_round(PILOT.digest(), Round(number, pilot[number], pilot[number], 1.0), contributions, figures)
    following = toy_study(
        id="follow-up",
        rounds=1,
        encoder={"filters": 4, "blocks": [1, 1], "start": pilot[2]},
        sharing={"branches": "task"},
    )
    ledger.queue(following)
    schema = toy_schema(following, ("mask",))
    branched, encoders = [], []
    for number in range(2):
        flat = first_state(schema)
        flat[schema.groups[ENCODER]] += 2 + number
        branched.append(registry.add(schema, flat, {}))
        encoders.append(schema.group_digests(flat)[ENCODER])
        ledger.commit_round(following.digest(), Round(number, branched[number], encoders[number], 1.0))
    return Shelf(ledger, registry, pilot, following, branched, encoders)


@pytest.fixture(scope="session")
def signer() -> Signer:
    authority_key, authority = pki.new_authority("north authority")
    key = pki.new_key()
    return Signer("north hub", key, pki.new_server_certificate(["localhost"], key, authority_key, authority), authority)


def released(shelf: Shelf, signer: Signer, name: str = "pilot-1.0", state: int = 2, *, sites: bool = False) -> Release:
    digest = shelf.pilot[state]
    told, origin = shelf.lineage(digest), shelf.origin(digest)
    return release(
        shelf.ledger, shelf.registry, told, origin, name, signer, notes="Bright\nlines.", sites=sites, actor="ada"
    )
