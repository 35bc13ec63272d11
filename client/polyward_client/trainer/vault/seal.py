"""A sealed file: AES-256-GCM in pieces, so that a large file needs no second copy and its beginning opens by itself.

    header   "PWSEAL\\r\\n", version, form (0: key, 1: passphrase), key id, salt of the passphrase, nonce, length
    pieces   1 MiB each, the last one shorter; each followed by its tag of 16 bytes

Every file has a key of its own: HKDF of the vault's key with the file's nonce of 256 random bits, as in Tink's
AES-GCM-HKDF streaming. Under that key the number of a piece is its nonce, so no pair of key and nonce comes twice.
Header, study and file name are associated data of every piece: a file that was changed, shortened or moved to another
study or round does not open.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from polyward_client.trainer.vault.keys import Key, Ring, derived
from polyward_shared.problems import Problem

MAGIC = b"PWSEAL\r\n"  # as the length of a safetensors header, which is what a plain file begins with, impossible
VERSION = 1
HEADER = struct.Struct(">8sBB16s16s32sQ")
PIECE = 1 << 20
TAG = 16
NONCE = 12


@dataclass(frozen=True, slots=True)
class Header:
    """What a sealed file says in clear; `length` is that of what it holds, in bytes."""

    passphrase: bool
    key_id: bytes
    salt: bytes
    nonce: bytes
    length: int

    def to_bytes(self) -> bytes:
        return HEADER.pack(MAGIC, VERSION, self.passphrase, self.key_id, self.salt, self.nonce, self.length)


def sealed_size(length: int) -> int:
    """The size of a sealed file that holds `length` bytes."""
    return HEADER.size + length + TAG * -(-length // PIECE)


def is_sealed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def seal(file: BinaryIO, parts: Iterable[memoryview], *, length: int, key: Key, place: str) -> None:
    """Writes the parts, `length` bytes together, as the sealed file of this place, such as `<study>/<file name>`."""
    header = Header(any(key.salt), key.id, key.salt, os.urandom(32), length)
    cipher, bound = _cipher(header, key), _bound(header, place)
    file.write(header.to_bytes())
    for number, piece in enumerate(_pieces(parts)):
        file.write(cipher.encrypt(number.to_bytes(NONCE, "big"), piece, bound))


def unsealed(path: Path, ring: Ring | None, place: str) -> Iterator[bytes]:
    """What the sealed file holds, piece by piece, each authentic. Raises `Problem`."""
    with path.open("rb") as file:
        header = _read_header(file, path)
        key = _fitting(header, ring, path)
        cipher, bound = _cipher(header, key), _bound(header, place)
        for number in range(-(-header.length // PIECE)):
            try:
                piece = cipher.decrypt(number.to_bytes(NONCE, "big"), file.read(PIECE + TAG), bound)
            except InvalidTag:
                raise _damaged(path, "it was changed, or moved here from another study or round") from None
            yield piece


def sealed_with(path: Path, key: Key) -> bool:
    """Whether the file is sealed with this key."""
    if not is_sealed(path):
        return False
    with path.open("rb") as file:
        return _read_header(file, path).key_id == key.id


def content_length(path: Path) -> int:
    """How many bytes the sealed file says to hold. Raises `Problem`."""
    with path.open("rb") as file:
        return _read_header(file, path).length


def _read_header(file: BinaryIO, path: Path) -> Header:
    raw = file.read(HEADER.size)
    if len(raw) < HEADER.size:
        raise _damaged(path, "it was cut short")
    magic, version, form, *rest = HEADER.unpack(raw)
    if (magic, version) != (MAGIC, VERSION) or form > 1:
        raise Problem(
            str(path),
            f"is sealed in a way that this version does not know (version {version})",
            remedy="use the version of polyward that wrote it, or restore it from a backup",
        )
    header = Header(bool(form), *rest)
    if os.fstat(file.fileno()).st_size != sealed_size(header.length):
        raise _damaged(path, "its length is not what it says: it was cut short, or added to")
    return header


def _fitting(header: Header, ring: Ring | None, path: Path) -> Key:
    kind = "passphrase" if header.passphrase else "key"
    if ring is None:
        raise Problem(
            str(path),
            f"is sealed with a {kind}, and site.toml names none",
            remedy=f"name the file with the vault's {kind} in site.toml, under [vault] {kind}",
        )
    key = ring.find(header.key_id, header.salt) if ring.passphrases == header.passphrase else None
    if key is None:
        raise Problem(
            str(path),
            f"is sealed with another {kind} than {ring.path} holds",
            remedy=f"bring back the {kind} file that the vault had when this was written",
        )
    return key


def _cipher(header: Header, key: Key) -> AESGCM:
    return AESGCM(derived(key.secret, salt=header.nonce, purpose=b"file"))


def _bound(header: Header, place: str) -> bytes:
    return header.to_bytes() + place.encode()


def _pieces(parts: Iterable[memoryview]) -> Iterator[memoryview | bytearray]:
    """The parts' bytes in pieces; only those that span two parts are copied."""
    rest = bytearray()
    for part in parts:
        begin = min(PIECE - len(rest), len(part)) if rest else 0
        rest += part[:begin]
        if len(rest) == PIECE:
            yield rest
            rest = bytearray()
        end = begin + (len(part) - begin) // PIECE * PIECE
        yield from (part[at : at + PIECE] for at in range(begin, end, PIECE))
        rest += part[end:]
    if rest:
        yield rest


def _damaged(path: Path, how: str) -> Problem:
    return Problem(
        str(path),
        f"is damaged: {how}",
        expected="the file as this site sealed it",
        remedy="restore it from a backup, or go on from a round before with `polyward-node vault rollback`",
    )
