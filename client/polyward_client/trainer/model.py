"""Encoder -> topology -> branches, and which of its arrays are shared or personal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyward_client.site import Site
from polyward_client.trainer.balance.balancer import Balancer
from polyward_client.trainer.branches import build_branch
from polyward_client.trainer.encoders import build_encoder, pyramid_of
from polyward_client.trainer.side import SideInputs, by_task
from polyward_client.trainer.tasks import kinds_of
from polyward_client.trainer.topology.edges import joints_of, site_graph
from polyward_client.trainer.topology.flow import Flow, Outputs, Situation, Truth
from polyward_shared.problems import Problem
from polyward_shared.schema import BRANCHES, ENCODER, Named, Schema, group_of
from polyward_shared.states import Arrays
from polyward_shared.study import Study
from polyward_shared.topologies import Topology


class MultiTaskModel(nn.Module):
    """One site's model of a study at its first state, for these of the study's tasks.

    `topology` replaces the study's at this site, `partial` names the classes that the site's masks show where they do
    not show all, and `allowed` the encoders besides ours that the site lets run.
    """

    def __init__(
        self,
        study: Study,
        tasks: Sequence[str],
        *,
        topology: Topology | None = None,
        partial: Mapping[str, Sequence[str]] | None = None,
        allowed: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.study = study
        self.kinds = kinds_of(study, tasks, partial)
        pyramid, graph = pyramid_of(study, allowed), site_graph(study, tasks, topology)
        self.encoder = build_encoder(study, allowed)
        self.idle = {f"{ENCODER}.{name}" for name, _ in self.encoder.named_parameters() if name not in pyramid.used}
        self.branches = nn.ModuleDict(
            {
                name: build_branch(study, kind, pyramid, joints_of(study, name, graph, self.kinds, pyramid))
                for name, kind in self.kinds.items()
            }
        )
        self.interaction = Flow(study, graph, self.kinds, pyramid)
        self.balancer = Balancer(study.balancer, tasks, {name: study.tasks[name].weight for name in tasks})
        self.input_adapter = SideInputs(study, tasks)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.branches)

    def forward(self, x: Tensor, wanted: Sequence[str] | None = None, side: Tensor | None = None) -> dict[str, Tensor]:
        """Images [batch, channels, *spatial] -> one output for each wanted task, all when absent."""
        return self.answer(self.encoder(x), tuple(x.shape[2:]), wanted, side=side).final

    def answer(
        self,
        pyramid: list[Tensor],
        size: tuple[int, ...],
        wanted: Sequence[str] | None = None,
        *,
        side: Tensor | None = None,
        truths: Mapping[str, Truth] | None = None,
        noise: torch.Generator | None = None,
    ) -> Outputs:
        """Outputs from features of images of this spatial size; `side` [batch, inputs] as `SideInputs` takes it."""
        vectors = {} if side is None else by_task(self.study, self.tasks, self.input_adapter(side))
        now = Situation(pyramid, self.branches, size, vectors, truths or {}, noise)  # type: ignore[arg-type]
        return self.interaction(now, wanted or self.tasks)  # type: ignore[no-any-return]

    def head(self, task: str) -> nn.Module:
        """The last layer of a task's branch."""
        return self.branches[task].head  # type: ignore[return-value]

    def progress(self, task: str) -> Tensor:
        """Best validation loss so far, and the measured rounds since then [2]."""
        return self.branches[task].get_buffer("progress")


def site_model(study: Study, tasks: Sequence[str], site: Site) -> MultiTaskModel:
    """The model as this site wants it."""
    file = site.file
    return MultiTaskModel(study, tasks, topology=file.topology, partial=file.data.partial, allowed=file.policy.encoders)


def parts(model: MultiTaskModel) -> dict[str, list[nn.Parameter]]:
    """Parameters by part: `encoder`, `branches.<task>`, `interaction`. Disjoint, and all that can learn."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name not in model.idle:
            found.setdefault(group_of(name), []).append(parameter)
    return found


def shared_parameters(model: MultiTaskModel, study: Study) -> dict[str, nn.Parameter]:
    """The parameters that may cross. Buffers never do, nor what no gradient reaches: it never changes."""
    with_branches = study.sharing.branches == "task"
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name not in model.idle
        and (group_of(name) == ENCODER or (with_branches and group_of(name).startswith(f"{BRANCHES}.")))
    }


def shared_arrays(model: MultiTaskModel, study: Study) -> Arrays:
    """Copies of the arrays that may cross, in the order of the schema."""
    arrays = {name: _copied(parameter) for name, parameter in shared_parameters(model, study).items()}
    return {spec.name: arrays[spec.name] for spec in Schema.of(arrays).arrays}


def personal_arrays(model: MultiTaskModel, study: Study) -> Arrays:
    """Copies of all others, buffers included."""
    personal = personal_names(model, study)
    return {name: _copied(value) for name, value in model.state_dict().items() if name in personal}


def load_shared(model: MultiTaskModel, study: Study, arrays: Named) -> None:
    """Puts a received state into the model. Raises `Refused` unless it fits the schema exactly."""
    current = shared_parameters(model, study)
    Schema(Schema.of({name: _shape_of(p) for name, p in current.items()}).arrays).check(arrays)
    _load(current, arrays)


def load_personal(model: MultiTaskModel, study: Study, arrays: Named) -> None:
    """Puts the site's own state into the model. Raises `Problem` when it belongs to other tasks or another model."""
    wanted = {name: v for name, v in model.state_dict(keep_vars=True).items() if name in personal_names(model, study)}
    fits = wanted.keys() == arrays.keys() and all(
        tuple(v.shape) == arrays[name].shape or group_of(name) == "balancer" for name, v in wanted.items()
    )
    if not fits:
        raise Problem(
            "the vault",
            f"holds branches {_tasks_of(arrays)}",
            expected=f"{_tasks_of(wanted)}, as the site's tasks now are",
            remedy="approve the study again with the tasks that it was trained with",
        )
    memory = {name for name in wanted if group_of(name) == "balancer"}  # may have grown since the model was built
    _load({name: value for name, value in wanted.items() if name not in memory}, arrays)
    model.balancer.load_state_dict(
        {name.removeprefix("balancer."): torch.from_numpy(np.array(arrays[name])) for name in memory}
    )


def personal_names(model: MultiTaskModel, study: Study) -> set[str]:
    """Everything else: the same encoder's idle parameters start equal everywhere and need no keeping."""
    return set(model.state_dict()) - shared_parameters(model, study).keys() - model.idle


def schema_of(model: MultiTaskModel, study: Study) -> Schema:
    """What may cross."""
    return Schema.of(shared_arrays(model, study))


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
