"""States (named float32 arrays) as safetensors files: written whole or not at all, read by mapping memory."""

from __future__ import annotations

import json
import math
import mmap
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from polyward_shared.chain import share_with_group, sync_folder
from polyward_shared.problems import Problem

Arrays = dict[str, NDArray[np.float32]]
HEADER_LIMIT = 100 << 20  # safetensors' own bound
MOST_DIMENSIONS, LONGEST_SIDE = 16, 2**40  # numpy takes no more, and products of more take long


def write_state(path: Path, arrays: Mapping[str, NDArray[np.float32]], stamp: Mapping[str, str]) -> None:
    """`path` appears complete and on the disk, or not at all; `stamp` is kept in the file's header.

    The draft is written through the descriptor that made it, never by its name: where another process may write into
    the folder too, a link in the draft's place would lead the bytes to any file of ours.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            share_with_group(file.fileno(), path.parent)
            file.writelines(state_parts(arrays, stamp))
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error  # such as a full disk
        raise
    sync_folder(path.parent)


def read_stamp(path: Path) -> dict[str, str]:
    """The stamp that `write_state` kept, without reading arrays. Raises `Problem` for a damaged file."""
    header, _ = _header(path)
    return _stamp(header)


def _stamp(header: dict[str, object]) -> dict[str, str]:
    stamp = header.get("__metadata__", {})
    return {str(key): str(value) for key, value in stamp.items()} if isinstance(stamp, dict) else {}


def read_state(path: Path) -> Arrays:
    """The arrays, read-only views of the mapped file. Raises `Problem` for a damaged file or another dtype."""
    header, start = _header(path)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _arrays(header, start, memoryview(mapped), str(path))


def state_parts(arrays: Mapping[str, NDArray[np.float32]], stamp: Mapping[str, str]) -> list[memoryview]:
    """The bytes of a state file, in order; those of an array are its own memory where that is contiguous."""
    entries: dict[str, object] = {"__metadata__": dict(stamp)}
    parts, at = [], 0
    for name in sorted(arrays):
        data = np.asarray(arrays[name], "<f4", order="C")
        entries[name] = {"dtype": "F32", "shape": data.shape, "data_offsets": [at, at + data.nbytes]}
        parts.append(data.reshape(-1).view(np.uint8).data)
        at += data.nbytes
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that every array begins where its type may
    return [memoryview(len(header).to_bytes(8, "little") + header), *parts]


def state_in(data: memoryview, where: str) -> tuple[Arrays, dict[str, str]]:
    """Arrays, as views, and stamp of a state file that is in memory. Raises `Problem` like `read_state`."""
    header, start = _parsed(data, where)
    return _arrays(header, start, data, where), _stamp(header)


def stamp_in(data: memoryview, where: str) -> dict[str, str] | None:
    """The stamp of a state file of which this is the beginning, or None where that is too short to tell."""
    if len(data) < 8 or 8 + int.from_bytes(data[:8], "little") > len(data):
        return None
    return _stamp(_parsed(data, where)[0])


def _arrays(header: dict[str, object], start: int, data: memoryview, where: str) -> Arrays:
    arrays: Arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or entry.get("dtype") != "F32":
            raise Problem(where, f"{name} is not float32", remedy="this file was not written by polyward")
        shape, begin = _place(entry)
        count = math.prod(shape)
        if begin < 0 or start + begin + 4 * count > len(data):
            raise Problem(where, f"{name} does not fit into the file", remedy="take it from a backup")
        arrays[name] = np.frombuffer(data, "<f4", count=count, offset=start + begin).reshape(shape)
    return arrays


def _place(entry: dict[str, object]) -> tuple[tuple[int, ...], int]:
    """Shape and first byte of an array; a place before the data where the entry makes no sense."""
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not (_is_list_of_sizes(shape) and _is_list_of_sizes(offsets) and len(offsets) == 2):
        return (), -1
    fits = offsets[1] - offsets[0] == 4 * math.prod(shape)
    return tuple(shape), offsets[0] if fits else -1


def _is_list_of_sizes(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= MOST_DIMENSIONS
        and all(type(side) is int and 0 <= side < LONGEST_SIDE for side in value)
    )


def _header(path: Path) -> tuple[dict[str, object], int]:
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            return _parsed(memoryview(start + file.read(length if length < HEADER_LIMIT else 0)), str(path))
    except FileNotFoundError:
        raise Problem(str(path), "there is no such file", remedy="check the path") from None
    except OSError as error:
        raise Problem(str(path), f"cannot be read ({error.strerror})", expected="a safetensors file") from None


def _parsed(data: memoryview, where: str) -> tuple[dict[str, object], int]:
    """The header at the beginning of `data`, and where the arrays begin."""
    length = int.from_bytes(data[:8], "little")
    try:
        if not 0 < length < HEADER_LIMIT:
            raise ValueError
        header = json.loads(bytes(data[8 : 8 + length]))
        if not isinstance(header, dict):
            raise TypeError
    except (ValueError, TypeError, RecursionError):
        raise Problem(where, "is damaged, or of another kind", expected="a safetensors file") from None
    return header, 8 + length
