"""States (named float32 arrays) as safetensors files: written whole or not at all, read by mapping memory."""

from __future__ import annotations

import json
import mmap
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from polyward_shared.chain import sync_folder
from polyward_shared.problems import Problem

Arrays = dict[str, NDArray[np.float32]]
HEADER_LIMIT = 100 << 20  # safetensors' own bound


def write_state(path: Path, arrays: Mapping[str, NDArray[np.float32]], stamp: Mapping[str, str]) -> None:
    """`path` appears complete and on the disk, or not at all; `stamp` is kept in the file's header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    try:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, name, metadata=dict(stamp))
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_stamp(path: Path) -> dict[str, str]:
    """The stamp that `write_state` kept, without reading arrays. Raises `Problem` for a damaged file."""
    header, _ = _header(path)
    stamp = header.get("__metadata__", {})
    return {str(key): str(value) for key, value in stamp.items()} if isinstance(stamp, dict) else {}


def read_state(path: Path) -> Arrays:
    """The arrays, read-only views of the mapped file. Raises `Problem` for a damaged file or another dtype."""
    header, start = _header(path)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    arrays: Arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or entry.get("dtype") != "F32":
            raise Problem(str(path), f"{name} is not float32", remedy="this file was not written by polyward")
        begin, end = entry["data_offsets"]
        shape = tuple(int(side) for side in entry["shape"])
        if start + end > len(mapped) or (end - begin) != 4 * int(np.prod(shape, dtype=np.int64)):
            raise Problem(str(path), f"{name} does not fit into the file", remedy="take it from a backup")
        values = np.frombuffer(mapped, "<f4", count=(end - begin) // 4, offset=start + begin)
        arrays[name] = values.reshape(shape)
    return arrays


def _header(path: Path) -> tuple[dict[str, object], int]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length < HEADER_LIMIT:
                raise ValueError
            header = json.loads(file.read(length))
            if not isinstance(header, dict):
                raise TypeError
    except FileNotFoundError:
        raise Problem(str(path), "there is no such file") from None
    except (ValueError, TypeError):
        raise Problem(str(path), "is damaged", expected="a safetensors file") from None
    return header, 8 + length
