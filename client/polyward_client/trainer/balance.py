"""How task losses combine. Absent tasks have been dropped before: K is the number of present ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from polyward_shared.study import Study


def combined(losses: Mapping[str, Tensor], study: Study) -> Tensor:
    """(1/K) sum w_k L_k over the present tasks, with the study's weights: `equal`."""
    terms = [study.tasks[name].weight * loss for name, loss in losses.items()]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total / len(terms)
