"""Small studies, one for each kind of encoder."""

from __future__ import annotations

from typing import Any

from polyward_shared.reading import validated
from polyward_shared.study import Study

SMALL: dict[str, dict[str, Any]] = {
    "segres": {"filters": 4, "blocks": [1, 1, 1]},
    "basicunet": {"widths": [4, 8, 16]},
    "resnet": {"depth": 10},
    "swin": {"width": 12, "depths": [2, 1, 1, 1], "window": 4},
    "vit": {"width": 16, "layers": 2, "patch": 8},
}
FORMS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {  # channels and strides
    "segres": ((4, 8, 16), (1, 2, 4)),
    "basicunet": ((4, 8, 16), (1, 2, 4)),
    "resnet": ((64, 64, 128, 256, 512), (2, 4, 8, 16, 32)),
    "swin": ((12, 24, 48, 96, 192), (2, 4, 8, 16, 32)),
    "vit": ((4, 8, 16, 16), (2, 4, 8, 16)),
}


def study_of(kind: str, size: tuple[int, ...] = (32, 32), *, channels: int = 1, **encoder: Any) -> Study:
    """A study with this encoder; `encoder` refines it."""
    text = {
        "id": "toy",
        "seed": 3,
        "rounds": 1,
        "image": {"channels": channels, "size": list(size)},
        "encoder": {"kind": kind, **SMALL.get(kind, {}), **encoder},
        "tasks": {"bright": {"kind": "binary"}},
    }
    return validated(text, Study, where="study.toml")
