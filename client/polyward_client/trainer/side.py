"""Inputs besides the image: a row of the manifest -> numbers, and numbers -> what a branch sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polyward_client.trainer.cells import Cell
from polyward_shared.study import Side, Study


def side_value(side: Side, cell: Cell | None) -> float:
    """The number, or the place of the class; NaN where the cell is empty. Raises `CellError`."""
    if cell is None:
        return math.nan
    return cell.number() if side.kind == "number" else float(cell.choice(side.classes))


def side_names(study: Study, tasks: Sequence[str]) -> tuple[str, ...]:
    """The study's side inputs that these tasks use."""
    used = {name for task in tasks for name in study.tasks[task].side}
    return tuple(name for name in study.side if name in used)


class SideInputs(nn.Module):
    """Raw values [batch, inputs], NaN where missing -> by input, standardised or one-hot, and a mark for missing.

    Mean and spread of the numbers are the site's own, buffers that never leave.
    """

    def __init__(self, study: Study, tasks: Sequence[str]) -> None:
        super().__init__()
        self.names = side_names(study, tasks)
        self.sides = {name: study.side[name] for name in self.names}
        if self.names:
            self.register_buffer("scale", torch.tensor([[0.0, 1.0]] * len(self.names)))  # [inputs, mean and spread]

    def forward(self, raw: Tensor) -> dict[str, Tensor]:
        scale = self.get_buffer("scale")
        found = {}
        for place, (name, side) in enumerate(self.sides.items()):
            value = raw[:, place]
            missing = value.isnan()
            known = value.nan_to_num(0.0)
            if side.kind == "number":
                standard = torch.where(missing, 0, (known - scale[place, 0]) / scale[place, 1])[:, None]
            else:
                standard = F.one_hot(known.long(), len(side.classes)).float() * ~missing[:, None]
            found[name] = torch.cat((standard, missing[:, None].float()), 1)
        return found

    def fit(self, raw: Tensor) -> None:
        """Takes mean and spread from the training cases' values [n, inputs]."""
        for place in range(len(self.names)):
            known = raw[~raw[:, place].isnan(), place].double()
            spread = float(known.std(correction=0)) if len(known) else 0.0
            mean = float(known.mean()) if len(known) else 0.0
            self.get_buffer("scale")[place] = torch.tensor([mean, spread or 1.0])


def by_task(study: Study, tasks: Sequence[str], values: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """The side inputs of each task's branch, in the order that the task names them."""
    return {task: [values[name] for name in study.tasks[task].side] for task in tasks}
