"""Encoder -> topology -> branches, and which of its arrays are shared or personal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyward_client.trainer.branches import build_branch
from polyward_client.trainer.encoder import build_encoder
from polyward_client.trainer.topology import build_topology
from polyward_shared.problems import Problem
from polyward_shared.schema import BRANCHES, ENCODER, Named, Schema, group_of
from polyward_shared.states import Arrays
from polyward_shared.study import Study


class MultiTaskModel(nn.Module):
    """One site's model of a study at its first state, for these of the study's tasks."""

    def __init__(self, study: Study, tasks: Sequence[str]) -> None:
        super().__init__()
        self.encoder = build_encoder(study)
        self.branches = nn.ModuleDict({name: build_branch(study, name) for name in tasks})
        self.interaction = build_topology(study)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.branches)

    def forward(self, x: Tensor, wanted: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Images [batch, channels, *spatial] -> one output for each wanted task, all when absent."""
        return self.interaction(self.encoder(x), self.branches, wanted or self.tasks)  # type: ignore[no-any-return]

    def scale(self, task: str) -> Tensor:
        """Mean and spread [2] of a regression task's training labels at this site."""
        return self.branches[task].get_buffer("target")


def parts(model: MultiTaskModel) -> dict[str, list[nn.Parameter]]:
    """Parameters by part: `encoder`, `branches.<task>`, `interaction`. Disjoint and complete."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        found.setdefault(group_of(name), []).append(parameter)
    return found


def is_shared(name: str, study: Study) -> bool:
    """Whether this array may cross. Buffers never do: the study's schema is made of parameters."""
    group = group_of(name)
    return group == ENCODER or (study.sharing.branches == "task" and group.startswith(f"{BRANCHES}."))


def shared_arrays(model: MultiTaskModel, study: Study) -> Arrays:
    """Copies of the arrays that may cross, in the order of the schema."""
    arrays = {name: _copied(p) for name, p in model.named_parameters() if is_shared(name, study)}
    return {spec.name: arrays[spec.name] for spec in Schema.of(arrays).arrays}


def personal_arrays(model: MultiTaskModel, study: Study) -> Arrays:
    """Copies of all others, buffers included."""
    shared = {name for name, _ in model.named_parameters() if is_shared(name, study)}
    return {name: _copied(value) for name, value in model.state_dict().items() if name not in shared}


def load_shared(model: MultiTaskModel, study: Study, arrays: Named) -> None:
    """Puts a received state into the model. Raises `Refused` unless it fits the schema exactly."""
    current = {name: p for name, p in model.named_parameters() if is_shared(name, study)}
    Schema(Schema.of({name: _shape_of(p) for name, p in current.items()}).arrays).check(arrays)
    _load(current, arrays)


def load_personal(model: MultiTaskModel, study: Study, arrays: Named) -> None:
    """Puts the site's own state into the model. Raises `Problem` when it belongs to other tasks or another model."""
    wanted = {name: v for name, v in model.state_dict(keep_vars=True).items() if name in personal_names(model, study)}
    fits = wanted.keys() == arrays.keys() and all(tuple(v.shape) == arrays[name].shape for name, v in wanted.items())
    if not fits:
        raise Problem(
            "the vault",
            f"holds branches {_tasks_of(arrays)}",
            expected=f"{_tasks_of(wanted)}, as the site's tasks now are",
            remedy="approve the study again with the tasks that it was trained with",
        )
    _load(wanted, arrays)


def personal_names(model: MultiTaskModel, study: Study) -> set[str]:
    shared = {name for name, _ in model.named_parameters() if is_shared(name, study)}
    return set(model.state_dict()) - shared


def schema_of(study: Study, tasks: Sequence[str]) -> Schema:
    """What may cross for a site with these tasks."""
    return Schema.of(shared_arrays(MultiTaskModel(study, tasks), study))


def _load(current: Mapping[str, Tensor], arrays: Named) -> None:
    with torch.no_grad():
        for name, value in current.items():
            value.copy_(torch.from_numpy(np.array(arrays[name], np.float32)))


def _copied(value: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = value.detach().to("cpu", torch.float32).contiguous().numpy().copy()
    return array


def _shape_of(value: Tensor) -> NDArray[np.float32]:
    return np.empty(tuple(value.shape), np.float32)


def _tasks_of(names: Mapping[str, object]) -> list[str]:
    return sorted({group_of(name) for name in names})
