"""The kinds of tasks, one module for each or for a few that are alike. `kind_of` is the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polyward_client.trainer.tasks.centreline import CentrelineKind
from polyward_client.trainer.tasks.classes import BinaryKind, MulticlassKind, MultilabelKind
from polyward_client.trainer.tasks.detection import DetectionKind
from polyward_client.trainer.tasks.kind import Figure, Kinds, TaskKind
from polyward_client.trainer.tasks.landmark import LandmarkKind
from polyward_client.trainer.tasks.ordinal import OrdinalKind
from polyward_client.trainer.tasks.regression import RegressionKind
from polyward_client.trainer.tasks.segmentation import SegmentationKind
from polyward_client.trainer.tasks.survival import SurvivalKind
from polyward_client.trainer.tasks.synthesis import SynthesisKind
from polyward_shared.study import Study
from polyward_shared.tasks import (
    Binary,
    Centreline,
    Detection,
    Landmark,
    Multiclass,
    Multilabel,
    Ordinal,
    Regression,
    Segmentation,
    Survival,
    Synthesis,
)

__all__ = ["Figure", "Kinds", "TaskKind", "kind_of", "kinds_of"]


def kind_of(study: Study, name: str, labelled: Sequence[str] = ()) -> TaskKind:
    """The study's task of this name; `labelled` are the classes that a site's masks show, if not all."""
    task = study.tasks[name]
    match task:
        case Binary():
            return BinaryKind(name, task)
        case Multiclass():
            return MulticlassKind(name, task)
        case Multilabel():
            return MultilabelKind(name, task)
        case Ordinal():
            return OrdinalKind(name, task)
        case Regression():
            return RegressionKind(name, task)
        case Survival():
            return SurvivalKind(name, task)
        case Segmentation():
            return SegmentationKind(name, task, study.training.empty_mask, labelled)
        case Landmark():
            return LandmarkKind(name, task)
        case Centreline():
            return CentrelineKind(name, task)
        case Detection():
            return DetectionKind(name, task, len(study.image.size))
        case Synthesis():
            return SynthesisKind(name, task)


def kinds_of(study: Study, names: Sequence[str], partial: Mapping[str, Sequence[str]] | None = None) -> Kinds:
    return {name: kind_of(study, name, (partial or {}).get(name, ())) for name in names}
