"""A study begins with what a person calls an encoder, though the registry keeps it beside branches."""

from __future__ import annotations

from pathlib import Path

from polyward_server.registry.catalogue import read_catalogue
from polyward_server.registry.lineage import lineage
from polyward_shared.schema import ENCODER
from tests.support.toy_federation import Toy, ToyFederation
from tests.support.toy_trainer import toy_study

TOYS = {"north": Toy(1.0, {"mask": 30}), "south": Toy(-1.0, {"mask": 10})}


def test_a_study_starts_from_an_encoder_named_by_its_own_digest(tmp_path: Path) -> None:
    first = toy_study(id="first", rounds=1, sharing={"branches": "task"})
    with ToyFederation(tmp_path, first, TOYS) as federation:
        assert federation.run()
        [*_, last] = federation.ledger.rounds(first.digest())
        reached = federation.group(ENCODER)
    assert last.encoder != last.state
    second = toy_study(id="second", rounds=1, encoder={"filters": 4, "blocks": [1, 1], "start": last.encoder})
    with ToyFederation(tmp_path, second, TOYS) as federation:
        assert federation.run()
        assert federation.group(ENCODER, 0).tobytes() == reached.tobytes()
        told = lineage(
            federation.ledger, read_catalogue(federation.ledger, federation.registry), federation.states()[-1]
        )
    assert [each.name for each in told.ancestry] == ["second", "first", "0"]
