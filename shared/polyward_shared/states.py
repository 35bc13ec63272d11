"""States (named float32 arrays) as safetensors files: written whole or not at all, read by mapping memory."""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from polyward_shared.chain import sync_folder
from polyward_shared.problems import Problem

Arrays = dict[str, NDArray[np.float32]]
OS_ERROR = re.compile(r"os error (\d+)")  # in the text of safetensors' own exception
HEADER_LIMIT = 100 << 20  # safetensors' own bound


def write_state(path: Path, arrays: Mapping[str, NDArray[np.float32]], stamp: Mapping[str, str]) -> None:
    """`path` appears complete and on the disk, or not at all; `stamp` is kept in the file's header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    try:
        save_file({k: np.asarray(v, order="C") for k, v in arrays.items()}, name, metadata=dict(stamp))
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, SafetensorError) and (number := OS_ERROR.search(str(error))):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error  # such as a full disk
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
        shape, begin = _place(entry)
        count = math.prod(shape)
        if begin < 0 or start + begin + 4 * count > len(mapped):
            raise Problem(str(path), f"{name} does not fit into the file", remedy="take it from a backup")
        arrays[name] = np.frombuffer(mapped, "<f4", count=count, offset=start + begin).reshape(shape)
    return arrays


def _place(entry: dict[str, object]) -> tuple[tuple[int, ...], int]:
    """Shape and first byte of an array; a place before the data where the entry makes no sense."""
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not (_is_list_of_sizes(shape) and _is_list_of_sizes(offsets) and len(offsets) == 2):
        return (), -1
    fits = offsets[1] - offsets[0] == 4 * math.prod(shape)
    return tuple(shape), offsets[0] if fits else -1


def _is_list_of_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(side) is int and side >= 0 for side in value)


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
        raise Problem(str(path), "there is no such file", remedy="check the path") from None
    except OSError as error:
        raise Problem(str(path), f"cannot be read ({error.strerror})", expected="a safetensors file") from None
    except (ValueError, TypeError, RecursionError):
        raise Problem(str(path), "is damaged, or of another kind", expected="a safetensors file") from None
    return header, 8 + length
