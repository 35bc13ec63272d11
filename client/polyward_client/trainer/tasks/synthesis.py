"""Another image of the same patient, or the image itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from polyward_client.trainer import images
from polyward_client.trainer.cells import Cell
from polyward_client.trainer.form import shaped
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.kind import Figure, TaskKind
from polyward_shared.study import Image
from polyward_shared.tasks import Synthesis

FIGURES = ("psnr", "ssim", "mae")
WINDOW, SIGMA = 11, 1.5  # of SSIM, in pixels
C1, C2 = 0.01**2, 0.03**2  # of SSIM, for values from 0 to 1
LEAST_ERROR = 1e-10  # mean squared error of an exact answer: 100 dB
CONVOLUTION = {2: F.conv2d, 3: F.conv3d}


class SynthesisKind(TaskKind):
    """Mean absolute error and structural dissimilarity of an image in the study's size and the task's own intensity.

    Losses and figures take the values to run from 0 to 1, and count the padding. With `zscore` intensity they compare
    answers with each other, not with published figures.
    """

    moves = "image"
    unsure = 0.0

    def __init__(self, name: str, task: Synthesis) -> None:
        super().__init__(name, task)
        self.task, self.channels = task, task.channels
        self.needs_label = task.target == "file"

    def label(self, cells: Sequence[Cell | None]) -> Path | None:
        return None if cells[0] is None else cells[0].file()

    def target(self, label: Path, picture: Picture, image: Image) -> NDArray[np.float32]:
        """float32 [channels, *size], in the geometry of `picture`; `label` is read unless the picture is the target."""
        if self.needs_label:
            picture = Picture(images.read_image(label, len(image.size)).values, picture.spacing)
        form = image.model_copy(update={"channels": self.channels, "intensity": self.task.intensity})
        return shaped(picture, form, where=label.name)

    def blank(self, image: Image) -> NDArray[np.float32]:
        return np.zeros((self.channels, *image.size), np.float32)

    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        away = (output - target).abs().flatten(1).mean(1)
        return away + self.task.ssim_weight * (1 - ssim(output, target)) if self.task.ssim_weight else away

    @property
    def evidence_width(self) -> int:
        return self.channels

    def evidence(self, output: Tensor) -> Tensor:
        return output

    def truth(self, target: Tensor) -> Tensor:
        return target

    def answers(self, output: Tensor, target: Tensor) -> Tensor:
        """PSNR in dB, SSIM and mean absolute error of each case [batch, 3]."""
        mae = (output - target).abs().flatten(1).mean(1)
        return torch.stack((psnr(output, target), ssim(output, target), mae), 1)

    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        for place, name in enumerate(FIGURES):
            yield name, float(answers[:, place].double().mean()), len(answers)


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """-10 log10 of the mean squared error, for values from 0 to 1, of each case [batch]; at most 100 dB."""
    return -10 * (output - target).square().flatten(1).mean(1).clamp(min=LEAST_ERROR).log10()


def ssim(output: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each case [batch], a mean over channels and places [batch, channels, *spatial].

    Wang et al., IEEE TIP 2004, 13:600, eq. 13, with a Gaussian window of 11 pixels that lies wholly inside the image.
    Along a shorter side the window is the longest odd one that fits.
    """
    x, y = (values.reshape(-1, 1, *values.shape[2:]) for values in (output, target))
    mean_x, mean_y = _blurred(x), _blurred(y)
    spread = (_blurred(x * x) - mean_x**2).clamp(min=0) + (_blurred(y * y) - mean_y**2).clamp(min=0)
    shared = _blurred(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + C1) * (2 * shared + C2) / ((mean_x**2 + mean_y**2 + C1) * (spread + C2))
    return alike.reshape(len(output), -1).mean(1)


def _blurred(values: Tensor) -> Tensor:
    """[n, 1, *spatial] under the window, one axis after the other."""
    dims = values.ndim - 2
    for axis in range(dims):
        side = min(WINDOW, values.shape[axis + 2])
        side -= 1 - side % 2
        places = torch.arange(side, dtype=values.dtype, device=values.device) - side // 2
        bell = (-places.square() / (2 * SIGMA**2)).exp()
        shape = [1] * (dims + 2)
        shape[axis + 2] = side
        values = CONVOLUTION[dims](values, (bell / bell.sum()).reshape(shape))
    return values
