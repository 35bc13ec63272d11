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
from polyward_client.trainer.encoders.entries import Entry, batch_norms, entries_of, load_moments, moments_of
from polyward_client.trainer.schedule import PRIVATE
from polyward_client.trainer.side import SideInputs, by_task
from polyward_client.trainer.tasks import kinds_of
from polyward_client.trainer.topology.edges import joints_of, site_graph
from polyward_client.trainer.topology.flow import Flow, Outputs, Situation, Truth
from polyward_shared.problems import Problem
from polyward_shared.schema import ENCODER, PRECISION, STATISTICS, Named, Schema, group_of
from polyward_shared.states import Arrays
from polyward_shared.study import Study
from polyward_shared.topologies import Topology

ANSWERS = ("head", "importance")  # of a branch: what only its own task can use


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
        self.private = build_encoder(study, allowed, name=PRIVATE) if study.sharing.private_encoder else None
        unused = {name for name, _ in self.encoder.named_parameters()} - pyramid.used
        self.idle = {f"{encoder}.{name}" for encoder in (ENCODER, PRIVATE) for name in unused}
        self.branches = nn.ModuleDict(
            {
                name: build_branch(study, kind, pyramid, joints_of(study, name, graph, self.kinds, pyramid))
                for name, kind in self.kinds.items()
            }
        )
        self.interaction = Flow(study, graph, self.kinds, pyramid)
        self.balancer = Balancer(study.balancer, tasks, {name: study.tasks[name].weight for name in tasks})
        self.input_adapter = SideInputs(study, tasks)
        self.batch_norms = tuple(batch_norms(self).values())

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.branches)

    def forward(self, x: Tensor, wanted: Sequence[str] | None = None, side: Tensor | None = None) -> dict[str, Tensor]:
        """Images [batch, channels, *spatial] -> one output for each wanted task, all when absent."""
        return self.answer(self.pyramid(x), tuple(x.shape[2:]), wanted, side=side).final

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """The features that branches see: the encoder's, at every level followed by those of the private one."""
        levels: list[Tensor] = self.encoder(x)
        if self.private is None:
            return levels
        return [torch.cat(pair, 1) for pair in zip(levels, self.private(x), strict=True)]

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
    """Parameters by part: `encoder`, `private`, `branches.<task>`, `interaction`. Disjoint, and all that can learn."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name not in model.idle:
            found.setdefault(group_of(name), []).append(parameter)
    return found


def shared_parameters(model: MultiTaskModel, study: Study) -> dict[str, nn.Parameter]:
    """The parameters that cross. Buffers never do as they are, nor what no gradient reaches: it never changes.

    Where each site keeps an encoder of its own, and decoders learn from those of other tasks, the last layers of
    branches stay: they fit one task's classes, and nobody else could learn from them.
    """
    groups, entries = study.groups(model.tasks), entries_of(model.encoder)
    answers_stay = study.aggregation.rule == "fedhca2"
    found: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if group_of(name) == ENCODER:
            crosses = name not in model.idle and _crosses(entries[name.removeprefix(f"{ENCODER}.")], study)
        else:
            crosses = group_of(name) in groups and not (answers_stay and name.split(".")[2] in ANSWERS)
        if crosses:
            found[name] = parameter
    return found


def _crosses(entry: Entry, study: Study) -> bool:
    """Whether a parameter of the encoder is the study's or the site's own: FedBN (Li et al., arXiv 2102.07623)."""
    if entry.kind == "affine":
        return study.sharing.norm_affine == "shared" or (study.sharing.norm_affine == "auto" and not entry.batch)
    return entry.kind == "weight"


def shared_arrays(model: MultiTaskModel, study: Study) -> Arrays:
    """Copies of the arrays that cross, in the order of the schema.

    Running statistics cross as raw moments. How sure a site is of the encoder's values only a round can tell: ones.
    """
    groups = study.groups(model.tasks)
    arrays = {name: _copied(parameter) for name, parameter in shared_parameters(model, study).items()}
    if PRECISION in groups:
        arrays |= {
            f"{PRECISION}.{name}": np.ones_like(value) for name, value in arrays.items() if group_of(name) == ENCODER
        }
    if STATISTICS in groups:
        moments = moments_of(model.encoder)
        arrays |= {f"{STATISTICS}.{ENCODER}.{name}": _copied(value) for name, value in moments.items()}
    return {spec.name: arrays[spec.name] for spec in Schema.of(arrays).arrays}


def personal_arrays(model: MultiTaskModel, study: Study) -> Arrays:
    """Copies of all others, buffers included."""
    personal = personal_names(model, study)
    return {name: _copied(value) for name, value in model.state_dict().items() if name in personal}


def load_shared(model: MultiTaskModel, study: Study, arrays: Named) -> None:
    """Puts a received state into the model, but for precisions. Raises `Refused` unless it fits the schema exactly."""
    Schema.of(shared_arrays(model, study)).check(arrays)
    load_encoder(model.encoder, arrays)
    _load({name: p for name, p in shared_parameters(model, study).items() if group_of(name) != ENCODER}, arrays)


def load_encoder(encoder: nn.Module, arrays: Named) -> None:
    """Puts those of the arrays that are the encoder's into it; what is not among them stays."""
    own = {f"{ENCODER}.{name}": value for name, value in encoder.state_dict(keep_vars=True).items()}
    _load({name: value for name, value in own.items() if name in arrays}, arrays)
    moments = {name: value for name, value in arrays.items() if group_of(name) == STATISTICS}
    if moments:
        start = f"{STATISTICS}.{ENCODER}."
        load_moments(encoder, {name.removeprefix(start): _tensor(value) for name, value in moments.items()})


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
    names = set(model.state_dict()) - shared_parameters(model, study).keys() - model.idle
    if STATISTICS in study.groups(model.tasks):
        entries = entries_of(model.encoder)
        names -= {f"{ENCODER}.{name}" for name, entry in entries.items() if entry.kind == "statistic"}
    return names


def schema_of(model: MultiTaskModel, study: Study) -> Schema:
    """What may cross. Raises `Problem` where the study wants something to cross that this model does not have."""
    schema = Schema.of(shared_arrays(model, study))
    if missing := sorted(study.groups(model.tasks) - schema.groups.keys()):
        raise Problem(
            "the study",
            f"wants {', '.join(missing)} to cross, but the model has no such values",
            expected="an encoder whose batch norms have running statistics, and branches with layers before the last",
            remedy="correct sharing or aggregation of the study, or take another encoder",
        )
    return schema


def _load(current: Mapping[str, Tensor], arrays: Named) -> None:
    with torch.no_grad():
        for name, value in current.items():
            value.copy_(_tensor(arrays[name]))


def _copied(value: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = value.detach().to("cpu", torch.float32).contiguous().numpy().copy()
    return array


def _tensor(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _tasks_of(names: Mapping[str, object]) -> list[str]:
    return sorted({group_of(name) for name in names})
