"""What the hub may know of the machine."""

from __future__ import annotations

from pathlib import Path

from polyward_client.gate.machine import Machine, gpus_of


def test_gpus_are_read_from_their_tools_lines() -> None:
    one, two = gpus_of(
        "NVIDIA A100-SXM4-80GB, 1024, 81920, 50\nbroken line\nTesla T4, [N/A], 1, 2\nGPU <x>, 0, 16, 0\n"
    )
    assert (one.model, one.memory_used, one.memory_total, one.busy) == ("NVIDIA A100-SXM4-80GB", 1 << 30, 80 << 30, 0.5)
    assert two.model == "GPU x"


def test_the_machine_is_told_in_numbers(tmp_path: Path) -> None:
    now = Machine(tmp_path).now()
    assert 0 <= now.cpu <= 1
    assert 0 < now.memory_used < now.memory_total
    assert now.disk_free > 0
