"""An encoder's 2D arrays, inflated, answer a volume that is constant along the new axis as they answered the slice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from polyward_client.trainer.encoders import build_encoder
from polyward_shared.dimensions import expanded
from tests.client.trainer.encoders.studies import study_of

DEEP: dict[str, dict[str, Any]] = {
    "segres": {"filters": 4, "blocks": [1, 2, 1, 1]},
    "basicunet": {"widths": [4, 8, 16, 32]},
    "resnet": {"depth": 10},
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("axis", [-1, 2])
def test_the_inflated_pyramid_repeats_that_of_the_slice(kind: str, axis: int) -> None:
    flat = build_encoder(study_of(kind, (32, 32), channels=2, **DEEP[kind]))
    deep = build_encoder(study_of(kind, (32, 32, 32), channels=2, **DEEP[kind]))
    arrays = {name: value.numpy() for name, value in flat.state_dict().items()}
    inflated = expanded(arrays, axis)
    deep.load_state_dict({name: torch.from_numpy(value) for name, value in inflated.items()})
    drawn = np.random.default_rng(2).random((1, 2, 32, 32), np.float32)
    image = torch.from_numpy(drawn)
    with torch.no_grad():
        slices, volumes = flat(image), deep(image.unsqueeze(axis).expand(1, 2, 32, 32, 32))
    for level, (narrow, wide) in enumerate(zip(slices, volumes, strict=True)):
        assert wide.shape[axis] == 32 // (32 // narrow.shape[-1])  # strided convolutions keep whole slices
        assert (wide - narrow.unsqueeze(axis)).abs().max() <= 2e-6 * max(1.0, float(narrow.abs().max())), level
