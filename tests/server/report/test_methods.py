"""Settings in words: each that a study may choose has its sentence, and what is not set is not said."""

from __future__ import annotations

from typing import Any

import pytest

from polyward_server.report.methods import methods
from polyward_shared.aggregation import RULES
from polyward_shared.training import BALANCERS
from tests.support.toy_trainer import toy_study


def said(**changes: Any) -> dict[str, str]:
    return {each.subject: " ".join(each.sentences) for each in methods(toy_study(**changes))}


def sources(subject: str, **changes: Any) -> str:
    [found] = [each.sources for each in methods(toy_study(**changes)) if each.subject == subject]
    return " ".join(found)


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_its_words(rule: str) -> None:
    weighting = "samples" if RULES[rule].weighs else "uniform"  # type: ignore[index]
    changes = {"aggregation": {"rule": rule, "weighting": weighting}, "participation": {"quorum": 5}}
    text = said(**changes)["Aggregation"]
    assert text.startswith(f"Rule {rule}: ")
    assert "{" not in text
    assert sources("Aggregation", **changes) or rule == "precision"


@pytest.mark.parametrize("kind", BALANCERS)
def test_each_balancer_is_named_and_cited(kind: str) -> None:
    changes = {"balancer": {"kind": kind}}
    text = said(**changes)["Balance of tasks"]
    assert kind in text or kind in {"equal", "fixed"}
    assert sources("Balance of tasks", **changes) or kind in {"equal", "fixed"}


def test_a_study_s_numbers_are_in_the_words() -> None:
    found = said(
        seed=77,
        image={"size": [32, 16], "channels": 3, "intensity": [0.0, 255.0]},
        training={"schedule": "fedrep", "epochs": 2, "branch_epochs": 3, "proximal": 0.25, "learning_rate": 0.0125},
        personal={"alone": False, "ditto": 0.5},
        aggregation={"optimiser": "adam", "rate": 0.03, "clip": 0},
        participation={"quorum": 2, "task_quorum": {"mask": 1}, "deadline_seconds": 7200.0, "sample": 0.5},
        evaluation={"resamples": 500, "every": 4, "splits": ["val"]},
        wire={"codec": "bfloat16", "update_norm": 12.5},
    )
    assert found["Images"].startswith("Images of 32 × 16 pixels, 3 channels. Intensities are cut to 0 to 255")  # noqa: RUF001
    assert "first the branches, 3 epochs, then the encoder, 2 epochs" in found["Training at a site"]
    assert "learning rate 0.0125" in found["Training at a site"]
    assert "FedProx, mu = 0.25" in found["Training at a site"]
    assert found["Models beside the federated one"].startswith("Each site also trained a personal model")
    assert "adam (rate 0.03; beta1 0.9; beta2 0.99, tau 0.001)" in found["Aggregation"]
    assert "Updates are not shortened." in found["Aggregation"]
    assert found["Participation"].startswith("A round needs 2 sites, 1 of them with mask. Each round asks 50% of")
    assert "2 h 0 min" in found["Participation"]
    assert found["Evaluation"].startswith("Each site measures its own cases of val in every 4 rounds and the last.")
    assert "500 bootstrap resamples" in found["Evaluation"]
    assert found["Wire"].endswith("whose norm is above 12.5.")
    assert "rounded to bfloat16" in found["Wire"]
    assert found["Seeds"].startswith("Seed 77. The first encoder is built from it")


def test_what_is_not_set_is_not_said() -> None:
    found = said(personal={"alone": False})
    assert found["Models beside the federated one"] == "None."
    assert "FedProx" not in found["Training at a site"]
    assert "MOON" not in found["Training at a site"]
    assert "private" not in found["Encoder"]


def test_edges_of_a_topology_are_told() -> None:
    edge = {"source": "mask", "target": "grade", "detach": True, "teacher_forcing": 0.5}
    found = said(topology={"kind": "cascaded", "cascade": [edge]})["Tasks' branches"]
    assert (
        "mask feeds its probability into grade (the target's gradient stops before it; 50% of labelled cases on the "
        "true label)." in found
    )
    assert "nddr" in said(topology={"kind": "interacted", "unit": "nddr"})["Tasks' branches"]
