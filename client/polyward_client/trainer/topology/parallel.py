"""Parallel branches (hard parameter sharing): every branch sees the pyramid and no other branch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Parallel(nn.Module):
    """No parameters of its own."""

    def forward(self, pyramid: list[Tensor], branches: nn.ModuleDict, wanted: Sequence[str]) -> dict[str, Tensor]:
        return {name: branches[name](pyramid) for name in wanted}
