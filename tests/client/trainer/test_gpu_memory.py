"""How much of a GPU's memory the site lets its trainer take; without a GPU, nothing is done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from polyward_client.trainer.trainer import hold_gpu_memory

GPU = torch.device("cuda", 1)


@pytest.mark.parametrize(("gigabytes", "fraction"), [(8.0, 0.2), (40.0, 1.0), (80.0, 1.0), (0.5, 0.0125)])
def test_the_share_of_the_gpus_memory(monkeypatch: pytest.MonkeyPatch, gigabytes: float, fraction: float) -> None:
    """A GPU of 40 GB, which torch only describes and never starts."""
    held: list[Any] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=40 * 10**9))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *share: held.append(share))
    hold_gpu_memory(GPU, gigabytes)
    assert held == [(pytest.approx(fraction), GPU)]


def test_without_a_limit_or_without_a_gpu_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *_: pytest.fail("was held"))
    hold_gpu_memory(GPU, None)
    hold_gpu_memory(torch.device("cpu"), 8.0)
