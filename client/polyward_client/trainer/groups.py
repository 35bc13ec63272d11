"""Images that share one label, such as the slices of a patient or the tiles of a slide: many outputs -> one answer.

The attention of Ilse et al. (arXiv 1802.04712, eq. 7-8) weights the embeddings h_k of a bag, z = sum a_k h_k. With a
linear head, g(z) = sum a_k g(h_k), so outputs may be weighted instead: the same number, without bags in the model.
"""

from __future__ import annotations

import torch
from torch import Tensor


def grouped(output: Tensor, target: Tensor, groups: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Outputs [n, channels, or one more for attention], targets [n, ...] and group numbers [n], -1 for none ->
    answers [groups, channels] and targets [groups, ...], in the order of the numbers."""
    members = [torch.nonzero(groups == number)[:, 0] for number in torch.unique(groups[groups >= 0])]
    answers = []
    for places in members:
        own = output[places]
        if own.shape[1] > channels:
            weights = own[:, channels:].softmax(0)
            answers.append((weights * own[:, :channels]).sum(0))
        else:
            answers.append(own.mean(0))
    return torch.stack(answers), target[torch.stack([places[0] for places in members])]
