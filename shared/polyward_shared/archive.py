"""One file that holds others, with the digest of each: what a backup is made of.

A zip archive without compression, so that any tool can look into it: the parts, and `manifest.json` last. A backup may
be damaged or forged. Its names must be those that such a backup has, so none leads out of a folder; it holds no links
and nothing compressed, so it cannot grow; and every digest is compared before anything counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import Field

from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen, validated
from polyward_shared.whole import make_private, whole_file

MANIFEST = "manifest.json"
LARGEST_MANIFEST = 64 << 20
BLOCK = 1 << 20
# what zipfile raises for a file that is not what it says
UNREADABLE = (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, OverflowError, struct.error)
Told = Callable[[int, int], None]  # bytes done, of how many


class Part(Frozen):
    """One file: its name in the archive, what it must be, and when it was last changed (seconds since 1970)."""

    name: str
    bytes: int = Field(ge=0)
    sha256: str
    changed: float = Field(ge=0, lt=1 << 33)


class Contents(Frozen):
    """What every archive says of itself."""

    form: str
    at: str
    software: str
    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


ContentsT = TypeVar("ContentsT", bound=Contents)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of archive: its form, whose it is, the command that writes it, and the names that its parts may have."""

    form: str
    whose: str
    command: str
    names: re.Pattern[str]
    needed: str  # the part without which there is none

    def unfit(self, path: Path, found: str) -> Problem:
        expected = f"a backup that `{self.command}` wrote"
        return Problem(str(path), found, expected=expected, remedy="take another copy of it")


def stated(kind: Kind, parts: list[Part]) -> dict[str, Any]:
    """The fields that every archive's contents have, as of now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"form": kind.form, "at": now, "software": f"polyward {version('polyward')}", "parts": tuple(parts)}


def copied(source: IO[bytes], target: IO[bytes]) -> tuple[int, str]:
    """Copies to the end; bytes and SHA-256 of what it was."""
    running, size = hashlib.sha256(), 0
    while block := source.read(BLOCK):
        running.update(block)
        target.write(block)
        size += len(block)
    return size, running.hexdigest()


def add_file(archive: zipfile.ZipFile, name: str, path: Path) -> Part:
    """Puts a file into the archive as it is on the disk."""
    with path.open("rb") as file:
        return add(archive, name, file)


def add(archive: zipfile.ZipFile, name: str, file: IO[bytes]) -> Part:
    """Puts what an open file holds from here to its end into the archive."""
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFREG | 0o600) << 16
    facts = os.fstat(file.fileno())
    info.file_size = facts.st_size  # so that zipfile knows whether it needs the form for large files
    with archive.open(info, "w") as target:
        size, digest = copied(file, target)
    return Part(name=name, bytes=size, sha256=digest, changed=facts.st_mtime)


def add_contents(archive: zipfile.ZipFile, contents: Contents) -> None:
    """The last thing to be written."""
    archive.writestr(zipfile.ZipInfo(MANIFEST), contents.model_dump_json(indent=1))


@contextmanager
def opened(path: Path, kind: Kind) -> Iterator[zipfile.ZipFile]:
    """The archive to read from. Raises `Problem` where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise Problem(str(path), "there is no such file", remedy="check the path") from None
    except UNREADABLE:
        raise kind.unfit(path, "is no backup, or damaged") from None


def contents_of(archive: zipfile.ZipFile, path: Path, kind: Kind, record: type[ContentsT]) -> ContentsT:
    """What the archive says to hold, which is then exactly what it holds, under names that may be."""
    infos = {info.filename: info for info in archive.infolist()}
    if len(infos) != len(archive.infolist()) or MANIFEST not in infos or infos[MANIFEST].file_size > LARGEST_MANIFEST:
        raise kind.unfit(path, f"is no backup of a {kind.whose}: it has no list of its parts, or a part twice")
    if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size for info in infos.values()):
        raise kind.unfit(path, "holds compressed parts, which no backup does")
    if any(not 0 <= info.header_offset < path.stat().st_size for info in infos.values()):
        raise kind.unfit(path, "is damaged: it names a part beyond its end")
    try:
        text = archive.read(MANIFEST).decode()
    except UnicodeDecodeError:
        raise kind.unfit(path, "is damaged: its list of parts is no text") from None
    try:
        contents = validated(json.loads(text), record, where=str(path))
    except (ValueError, RecursionError):
        raise kind.unfit(path, "is damaged: its list of parts cannot be read") from None
    sizes = {part.name: part.bytes for part in contents.parts}
    if sizes != {name: info.file_size for name, info in infos.items() if name != MANIFEST}:
        raise kind.unfit(path, "is damaged: what it holds is not what its list says")
    if wrong := [name for name in sizes if not kind.names.fullmatch(name)]:
        raise kind.unfit(path, f"holds {wrong[0]!r}, which is no part of a {kind.whose}")
    if kind.needed not in sizes or sum(sizes.values()) > path.stat().st_size:
        raise kind.unfit(path, "is damaged: a part is missing, or parts lie in one another")
    if contents.form != kind.form:
        raise kind.unfit(path, f"has the form {contents.form!r}, which this version does not know")
    return contents


def unpack(archive: zipfile.ZipFile, contents: Contents, folder: Path, path: Path, kind: Kind, told: Told) -> None:
    """Writes every part under its name into the folder. Raises `Problem` at the first that is not what it was."""
    of, done = contents.bytes, 0
    for part in contents.parts:
        target = folder / part.name
        make_private(target.parent)
        with archive.open(part.name) as source, whole_file(target) as file:
            found = copied(source, file)
        if found != (part.bytes, part.sha256):
            raise kind.unfit(path, f"is damaged: {part.name} is not what it was")
        os.utime(target, (part.changed, part.changed))
        done += part.bytes
        told(done, of)
