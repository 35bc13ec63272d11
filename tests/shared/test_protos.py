"""The generated messages are those of `control.proto`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import polyward_shared
from polyward_shared.protos import control_pb2
from polyward_shared.supervise import module


def test_what_is_generated_is_what_the_file_says(tmp_path: Path) -> None:
    root = Path(polyward_shared.__file__).parents[1]
    command = module("grpc_tools.protoc", "-I", str(root), "--python_out", str(tmp_path), "--pyi_out", str(tmp_path))
    subprocess.run([*command, "polyward_shared/protos/control.proto"], check=True, cwd=root)
    for name in ("control_pb2.py", "control_pb2.pyi"):
        made = tmp_path / "polyward_shared" / "protos" / name
        assert made.read_text() == (Path(control_pb2.__file__).parent / name).read_text(), "run `make protos`"
