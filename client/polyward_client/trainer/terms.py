"""What a round adds to the gradients of the tasks' losses: a pull to what was received, a contrast of features.

FedProx (Li et al., arXiv 1812.06127) adds (mu / 2) |theta - theta_received|^2 to the loss of a site; Ditto (Li et al.,
arXiv 2012.04221, algorithm 1) pulls a personal model in the same way. The gradient of it is mu (theta -
theta_received), so no graph is needed. MOON (Li et al., arXiv 2103.16257, eq. 3) holds the encoder's features near
those of the encoder that was received and away from those of the site's own after its last round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from polyward_client.trainer.model import MultiTaskModel, load_encoder, parts
from polyward_client.trainer.precision import Squares
from polyward_shared.training import Training


@dataclass(frozen=True, slots=True)
class Pull:
    """By part: the parameters that were received, each with the value to which it is drawn."""

    strength: float
    pairs: dict[str, list[tuple[nn.Parameter, Tensor]]]

    @torch.no_grad()
    def add(self, part: str) -> None:
        """Adds `strength` times the way from the received value to `.grad` of the part's parameters."""
        for parameter, anchor in self.pairs.get(part, ()):
            away = parameter - anchor
            if parameter.grad is None:
                parameter.grad = self.strength * away
            else:
                parameter.grad.add_(away, alpha=self.strength)


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two frozen encoders in evaluation mode, and how much their features count."""

    received: nn.Module
    previous: nn.Module
    weight: float
    temperature: float

    def gradient(self, deepest: Tensor, images: Tensor) -> Tensor:
        """Of the contrast at the deepest level [batch, channels, *spatial], whose first channels are the encoder's."""
        with torch.no_grad():
            near, far = pooled(self.received(images)[-1]), pooled(self.previous(images)[-1])
        leaf = deepest.detach().float().requires_grad_()
        loss = self.weight * contrast(pooled(leaf)[:, : near.shape[1]], near, far, self.temperature)
        (found,) = torch.autograd.grad(loss, leaf)
        return found


@dataclass(frozen=True, slots=True)
class Terms:
    """All of a round, and what it learns of its gradients; nothing by default."""

    pull: Pull | None = None
    contrast: Contrast | None = None
    squares: Squares | None = None


def pull_of(model: MultiTaskModel, strength: float, received: Mapping[str, NDArray[np.float32]] | None) -> Pull | None:
    """The pull of the model's parameters to the received arrays of the same names."""
    if not strength or received is None:
        return None
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    pairs = {
        part: [(each, _like(received[names[id(each)]], each)) for each in parameters if names[id(each)] in received]
        for part, parameters in parts(model).items()
    }
    return Pull(strength, {part: some for part, some in pairs.items() if some})


def contrast_of(
    model: MultiTaskModel,
    training: Training,
    received: Mapping[str, NDArray[np.float32]] | None,
    previous: Mapping[str, NDArray[np.float32]] | None,
) -> Contrast | None:
    """The contrast of a round that begins now; of what `received` and `previous` lack, the model has it.

    In a site's first round there is none: the received encoder stands for the previous one too, and where both are the
    same the term is constant.
    """
    if not training.contrast or previous is None:
        return None
    near, far = _frozen(model.encoder), _frozen(model.encoder)
    load_encoder(near, received or {})
    load_encoder(far, previous)
    if all(torch.equal(one, other) for one, other in zip(_values(near), _values(far), strict=True)):
        return None
    return Contrast(near, far, training.contrast, training.contrast_temperature)


def contrast(features: Tensor, near: Tensor, far: Tensor, temperature: float) -> Tensor:
    """-log(e^(s(z, near) / t) / (e^(s(z, near) / t) + e^(s(z, far) / t))), s the cosine, over [batch, channels]."""
    likeness = torch.stack([F.cosine_similarity(features, other, dim=1) for other in (near, far)], 1)
    return F.cross_entropy(likeness / temperature, torch.zeros(len(features), dtype=torch.long, device=features.device))


def pooled(level: Tensor) -> Tensor:
    """The mean over places, in float32: [batch, channels, *spatial] -> [batch, channels]."""
    return level.float().flatten(2).mean(-1)


def _frozen(encoder: nn.Module) -> nn.Module:
    return deepcopy(encoder).requires_grad_(False).eval()


def _values(encoder: nn.Module) -> Iterator[Tensor]:
    """All but counters of batches, which change no feature."""
    yield from (value for value in encoder.state_dict().values() if value.is_floating_point())


def _like(array: NDArray[np.float32], value: Tensor) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32)).to(value.device)
