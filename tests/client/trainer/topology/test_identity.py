"""Edges that say nothing leave every answer as it is without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.topology.exchange import NDDR, CrossStitch, Distillation
from polyward_shared.study import Study
from polyward_shared.topologies import Topology
from tests.support.images import TASKS, make_study

MORE = {**TASKS, "organ": {"kind": "segmentation", "classes": ["a", "b"]}}
MAPS = ("mask", "organ")
NAMES = ("bright", *MAPS)


def study_of(**topology: Any) -> Study:
    data = make_study(encoder={"blocks": [1, 1, 1]}).model_dump(mode="json")  # two stages
    return Study.model_validate({**data, "tasks": {name: MORE[name] for name in NAMES}, "topology": topology})


def itself(model: MultiTaskModel) -> None:
    for unit in model.interaction.modules():
        if isinstance(unit, CrossStitch):
            unit.mixing.copy_(torch.eye(len(unit.mixing)))
        elif isinstance(unit, NDDR):
            unit.weight.copy_(torch.eye(len(unit.weight)))
        elif isinstance(unit, Distillation):
            for parameter in unit.values.parameters():
                parameter.zero_()


def open_gates(model: MultiTaskModel) -> None:
    for task in MAPS:
        for gate in model.branches[task].decoder.gates:  # type: ignore[union-attr]
            gate[2].bias.fill_(100.0)


def parallel_like(model: MultiTaskModel, tasks: tuple[str, ...]) -> MultiTaskModel:
    """The parallel model with the same weights, as far as it has them."""
    plain, known = MultiTaskModel(study_of(), tasks), model.state_dict()
    wanted = {name: known[name] for name in plain.state_dict()}
    plain.load_state_dict(wanted)
    return plain


def answers(model: MultiTaskModel, tasks: tuple[str, ...]) -> dict[str, Tensor]:
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: dict[str, Tensor] = model(images, tasks)
    return found


def close(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.allclose(one[task], two[task], atol=1e-5) for task in one)


@pytest.mark.parametrize(
    ("unit", "stages", "silence"),
    [
        *((unit, stages, itself) for unit in ("cross_stitch", "nddr", "distillation") for stages in ("all", "last")),
        ("attention", "all", open_gates),
    ],
)
def test_an_interaction_that_passes_nothing_on_is_parallel(
    unit: str, stages: str, silence: Callable[[MultiTaskModel], None]
) -> None:
    edge = {"tasks": MAPS, "unit": unit, "stages": stages}
    model = MultiTaskModel(study_of(kind="interacted", interact=[edge]), MAPS)
    plain = parallel_like(model, MAPS)
    assert not close(answers(model, MAPS), answers(plain, MAPS)), "at first it passes something on"
    with torch.no_grad():
        silence(model)
    assert close(answers(model, MAPS), answers(plain, MAPS))


@pytest.mark.parametrize("unit", ["cross_stitch", "nddr", "distillation"])
def test_a_site_with_one_task_of_an_interaction_is_parallel(unit: str) -> None:
    model, plain = (MultiTaskModel(study, ("mask",)) for study in (study_of(kind="interacted", unit=unit), study_of()))
    assert list(model.state_dict()) == list(plain.state_dict())
    assert close(answers(model, ("mask",)), answers(plain, ("mask",)))


@pytest.mark.parametrize("tasks", [("mask",), ("organ",), MAPS], ids=str)
def test_a_site_without_the_target_of_a_cascade_is_parallel(tasks: tuple[str, ...]) -> None:
    model, plain = (MultiTaskModel(study, tasks) for study in (study_of(kind="cascaded"), study_of()))  # mask -> bright
    assert list(model.state_dict()) == list(plain.state_dict())
    assert close(answers(model, tasks), answers(plain, tasks))


@pytest.mark.parametrize("gives", ["probability", "argmax", "logits", "features"])
def test_a_cascade_whose_weights_are_zero_does_not_hear_its_source(gives: str) -> None:
    edge = {"source": "mask", "target": "organ", "gives": gives}
    model = MultiTaskModel(study_of(kind="cascaded", cascade=[edge]), NAMES)
    finest = model.branches["organ"].head.in_channels  # type: ignore[union-attr]
    loud = answers(model, ("organ",))
    with torch.no_grad():
        adapter: Any = model.branches["organ"].adapter
        adapter.weight[:, finest:].zero_()
    quiet = answers(model, ("organ",))
    assert not close(loud, quiet)
    with torch.no_grad():
        head: Any = model.branches["mask"].head
        head.bias.add_(torch.tensor([5.0, -5.0]))
    assert close(answers(model, ("organ",)), quiet)
    alone = MultiTaskModel(model.study, ("organ",))  # a site without the source
    alone.branches.load_state_dict({k: v for k, v in model.branches.state_dict().items() if k.startswith("organ.")})
    assert close(answers(alone, ("organ",)), quiet)


def test_a_site_may_go_without_the_studys_edges() -> None:
    study = study_of(kind="hybrid")
    model = MultiTaskModel(study, NAMES, topology=Topology())
    assert close(answers(model, NAMES), answers(MultiTaskModel(study_of(), NAMES), NAMES))
