"""What a file must be before anything of it is read: plain, and of a size that one image can have.

Files come from outside, so none is believed. A pipe would be waited for without end, a device never ends, and a sparse
file of terabytes costs whoever made it nothing.
"""

from __future__ import annotations

import stat
from pathlib import Path

from polyward_shared.problems import Problem

LARGEST = 1 << 28  # values in one image, 1 GiB as float32: above every clinical volume, below a decompression bomb
WIDEST = 8  # bytes of one value
LARGEST_FILE = LARGEST * WIDEST + (64 << 20)  # with ample room for a header
DEFLATED = 1032  # one byte that zlib stored can become at most so many: zlib's own technical notes
SHOWN = 120  # characters of a file's text in a message


class Unfit(ValueError):
    """The file is of its kind, but not an image that can be used; the text is ours and quotes nothing of the file."""


def check_plain(path: Path, largest: int = LARGEST_FILE) -> int:
    """The size of a plain file in bytes, links followed. Raises `Problem` for anything else, and `OSError`."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise Problem(path.name, "is not a plain file", expected="a file, no pipe, device or socket")
    if found.st_size > largest:
        raise Problem(
            path.name,
            f"has {found.st_size / 2**20:,.0f} MiB",
            expected=f"at most {largest / 2**20:,.0f} MiB",
            remedy="look whether this is the file that was meant",
        )
    return found.st_size


def shown(text: str) -> str:
    """A file's text for a message: on one line, without control characters, and short."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
