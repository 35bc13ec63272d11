"""The part of a site's models that answers for some tasks, as one module: images in, what the model card says out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polyward_client.trainer.calibration import Calibration
from polyward_client.trainer.finished import Finished
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.tasks import TaskKind
from polyward_client.trainer.tasks.centreline import CentrelineKind
from polyward_client.trainer.tasks.classes import BinaryKind, MulticlassKind, MultilabelKind
from polyward_client.trainer.tasks.detection import DetectionKind
from polyward_client.trainer.tasks.landmark import LandmarkKind
from polyward_client.trainer.tasks.ordinal import OrdinalKind
from polyward_client.trainer.tasks.regression import RegressionKind
from polyward_client.trainer.tasks.segmentation import SegmentationKind
from polyward_client.trainer.tasks.survival import SurvivalKind


class Deployed(nn.Module):
    """Called with images [batch, channels, *spatial] in the study's form, and side inputs [batch, inputs] if any.

    Returns one tensor for each task in the order of `tasks`, alone where there is one: probabilities where a task has
    classes, divided by its temperature first where it has one; numbers in the label's unit. Holds no array of other
    tasks, nor the memories of training.
    """

    def __init__(
        self, models: Mapping[str, MultiTaskModel], answers: Mapping[str, str], temperatures: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.answers = dict(answers)
        self.tasks = tuple(answers)
        self.kinds = {task: models[name].kinds[task] for task, name in answers.items()}
        self.temperatures = {task: temperatures.get(task, 1.0) for task in self.tasks}
        self.models = nn.ModuleDict(
            {name: pruned(models[name], [task for task in self.tasks if answers[task] == name]) for name in models}
        )
        self.eval()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the side inputs, in their order."""
        return next(iter(self.models.values())).input_adapter.names  # type: ignore[union-attr,return-value]

    def forward(self, image: Tensor, side: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        found: dict[str, Tensor] = {}
        for name, model in self.models.items():
            own = [task for task in self.tasks if self.answers[task] == name]
            outputs = model.answer(model.pyramid(image), tuple(image.shape[2:]), own, side=side).final  # type: ignore[operator]
            found |= {task: self._told(task, outputs[task], model.head(task)) for task in own}  # type: ignore[operator]
        told = tuple(found[task] for task in self.tasks)
        return told[0] if len(told) == 1 else told

    def _told(self, task: str, output: Tensor, head: nn.Module) -> Tensor:
        kind = self.kinds[task]
        output = output[:, : kind.channels]  # without the weight of an image in its group
        match kind:
            case RegressionKind():
                mean, spread = head.get_buffer("target").unbind()
                return output * spread + mean
            case DetectionKind():
                heat = kind.evidence(output)
                return torch.cat((heat, output[:, heat.shape[1] :].exp()), 1)
        return kind.evidence(output / self.temperatures[task])


def deployed(finished: Finished, calibrations: Mapping[str, Calibration], tasks: Sequence[str]) -> Deployed:
    """Copies, on the CPU, of what answers for these tasks."""
    answers = {task: finished.answers[task] for task in tasks}
    models = {name: copy.deepcopy(finished.models[name]).to("cpu") for name in dict.fromkeys(answers.values())}
    temperatures = {task: each.divisor for task, each in calibrations.items()}
    return Deployed(models, answers, temperatures)  # type: ignore[arg-type]


def pruned(model: MultiTaskModel, wanted: Sequence[str]) -> MultiTaskModel:
    """The same model with only the branches that these tasks rest on, and without what only training remembers.

    How well the site's training went, which a branch keeps as `progress`, is nobody's business who gets the model.
    """
    needed = model.interaction.graph.needed(wanted)
    for task in [task for task in model.branches if task not in needed]:
        del model.branches[task]
    for branch in model.branches.values():
        del branch.progress
    model.balancer = nn.Identity()  # type: ignore[assignment]
    model.requires_grad_(requires_grad=False)
    return model


def meaning(kind: TaskKind) -> tuple[str, dict[str, str]]:
    """What the output is, and what each of its channels is."""
    match kind:
        case BinaryKind() | MulticlassKind() | OrdinalKind():
            return "probability of each class", _numbered(kind.classes())
        case MultilabelKind():
            return "probability of each finding", _numbered(kind.names)
        case RegressionKind():
            return "a number in the unit of the labels", _numbered(["value"])
        case SurvivalKind() if kind.cox:
            return "log risk, higher is worse", _numbered(["log_risk"])
        case SurvivalKind():
            return "probability to live beyond each time", _numbered([f"{time:g}" for time in kind.times])
        case SegmentationKind():
            return "probability of each class at each place", _numbered(["background", *kind.task.classes])
        case CentrelineKind():
            return "probability of each class at each place", _numbered(["background", "tube"])
        case LandmarkKind():
            return "height of each point's bell at each place, 0 to 1", _numbered(kind.points)
        case DetectionKind():
            sides = [f"side along axis {axis}" for axis in range(kind.dims)]
            return "heat of each class's centres, then the sides in pixels", _numbered([*kind.names, *sides])
    return "an image", _numbered([f"channel {place}" for place in range(kind.channels)])


def _numbered(names: Sequence[str]) -> dict[str, str]:
    return {str(place): name for place, name in enumerate(names)}
