"""A site's balancer: the rule of its kind, and the memory that the vault keeps.

The memory is site-local and lies in buffers with one row per task of the site, in the site's order. A step gathers the
rows of the present tasks, lets the rule replace them and puts them back: the rows of absent tasks cannot move, and a
rule never learns that other tasks exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from polyward_client.trainer.balance.gradients import db_mtl_averages
from polyward_client.trainer.balance.kinds import kind_of
from polyward_client.trainer.balance.step import Rows, Step
from polyward_shared.training import Balancer as Config


class Balancer(nn.Module):
    """Losses of the present tasks, and perhaps their gradients -> one weight each; sum_k w_k dL_k is the gradient.

    `scales_branches` says whether a branch's own gradient is multiplied by its weight too. `needs_jacobian` says that
    the Gramian is not enough. `wants_after` asks for `after` with the same batch's losses once the step is taken.
    """

    needs: Literal["losses", "gradients"]

    def __init__(self, config: Config, tasks: Sequence[str], task_weights: Mapping[str, float]) -> None:
        super().__init__()
        self.config, self.tasks = config, tuple(tasks)
        self._kind = kind_of(config.kind)
        self.needs_jacobian = self._kind.jacobian
        self.needs = "gradients" if self._kind.gram or self._kind.jacobian else "losses"
        self.scales_branches = self._kind.scales_branches
        self.wants_after = self._kind.after is not None
        weights = torch.tensor([task_weights[name] for name in self.tasks], dtype=torch.float32)
        self.register_buffer("task_weights", weights, persistent=False)
        self.register_buffer("reference", torch.full((len(self.tasks),), torch.nan))
        for name, start in self._kind.rows.items():
            self.register_buffer(name, torch.full((len(self.tasks),), start))
        self._known: dict[tuple[str, ...], Tensor] = {}  # what `_places` has found
        for name in self._kind.wide:
            self.register_buffer(name, torch.zeros(len(self.tasks), 0))  # as wide as the first gradient it sees

    @torch.no_grad()
    def weights(
        self,
        losses: Mapping[str, Tensor],
        gram: Tensor | None,
        generator: np.random.Generator,
        jacobian: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """One float32 scalar for each task in `losses`; Gramian [K, K] and Jacobian [K, P] in their order.

        A step with a loss or gradient that is not finite leaves the memory as it was. A loss of 0 is no reference:
        nothing can be compared with it.
        """
        if not losses:
            return {}
        index, values = self._places(losses), _vector(losses)
        sound = values.isfinite().all()
        for given in (gram, jacobian):
            if given is not None:
                sound = sound & given.isfinite().all()
        kept = self._row("reference")[index]
        first = torch.where(kept > 0, kept, values)
        rows = self._gather(index)
        step = Step(
            losses=values,
            reference=first,
            task_weights=self._row("task_weights")[index],
            rows=rows,
            config=self.config,
            generator=generator,
            gram=None if gram is None else gram.detach().float().nan_to_num(0.0, 0.0, 0.0),
            jacobian=None if jacobian is None else jacobian.detach().float(),
        )
        found = self._kind.rule(step)
        self._scatter(index, {**rows, "reference": torch.where(first > 0, first, torch.nan)}, sound)
        return dict(zip(losses, found.unbind(), strict=True))

    @torch.no_grad()
    def after(self, losses: Mapping[str, Tensor]) -> None:
        """The losses of the last `weights`, computed again after the step; for kinds that want it."""
        if self._kind.after is None or not losses:
            return
        index, values = self._places(losses), _vector(losses)
        rows = self._gather(index)
        self._kind.after(rows, values, self.config)
        self._scatter(index, rows, values.isfinite().all())

    @torch.no_grad()
    def end_epoch(self) -> None:
        """The means of the epoch that ends; for kinds that keep them."""
        if self._kind.epoch is not None:
            index = torch.arange(len(self.tasks), device=self._row("reference").device)
            rows = self._gather(index)
            self._kind.epoch(rows)
            self._scatter(index, rows, torch.ones((), dtype=torch.bool, device=index.device))

    @torch.no_grad()
    def gradients(self, present: Iterable[str], jacobian: Tensor) -> Tensor:
        """[K, P]: what the last weights apply to. The gradients themselves, except for db_mtl: its averages of them."""
        if not self._kind.wide:
            return jacobian
        averages = db_mtl_averages(self._gather(self._places(present)), self.config.decay)
        return torch.where(jacobian.isfinite().all(), averages, torch.nan)  # an overflow must be seen by the scaler

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self._kind.wide:
            if prefix + name in state_dict:
                self._buffers[name] = torch.zeros_like(state_dict[prefix + name], device=self._row(name).device)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _places(self, names: Iterable[str]) -> Tensor:
        """The rows of these tasks; kept, because a GPU is waited for when numbers are sent to it."""
        names, device = tuple(names), self._row("reference").device
        known = self._known.get(names)
        if known is None or known.device != device:
            known = self._known[names] = torch.tensor([self.tasks.index(name) for name in names], device=device)
        return known

    def _row(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def _gather(self, index: Tensor) -> Rows:
        return {name: self._row(name)[index] for name in (*self._kind.rows, *self._kind.wide)}

    def _scatter(self, index: Tensor, rows: Rows, sound: Tensor) -> None:
        for name, new in rows.items():
            kept = self._row(name)
            if kept.shape[1:] != new.shape[1:]:  # a wide row meets its first gradient
                kept = self._buffers[name] = new.new_zeros(len(self.tasks), *new.shape[1:])
            kept.index_copy_(0, index, torch.where(sound, new, kept[index]))


def _vector(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([loss.detach().float() for loss in losses.values()])
