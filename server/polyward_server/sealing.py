"""A file under a passphrase: AES-256-GCM in pieces, written from front to end as a backup is.

    header   "PWHUBBK1", salt of 16 random bytes
    pieces   1 MiB each, the last one shorter or empty; each followed by its tag of 16 bytes

The key is scrypt's (RFC 7914) of passphrase and salt, so it is new for every file. The nonce of a piece is its number
and whether it is the last, as in STREAM (Hoang, Reyhanitabar, Rogaway and Vizar, 2015): a file that was changed,
reordered or cut short does not open. The header is associated data of every piece.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from polyward_shared.problems import Problem

MAGIC = b"PWHUBBK1"
SALT = 16
PIECE = 1 << 20
TAG = 16
SHORTEST = 12  # characters
SCRYPT = {"n": 1 << 17, "r": 8, "p": 1}  # 128 MiB and about half a second: what OWASP asks of scrypt


class Sealing(io.RawIOBase):
    """Seals what is written to it into `file`; complete once it is closed. The file itself stays open."""

    def __init__(self, file: IO[bytes], passphrase: bytes) -> None:
        super().__init__()
        header = MAGIC + os.urandom(SALT)
        self._file, self._header, self._cipher = file, header, _cipher(header, passphrase)
        self._rest, self._number = bytearray(), 0
        file.write(header)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]  # of any buffer
        self._rest += data
        while len(self._rest) > PIECE:  # the last piece is known as such only at the end
            self._put(bytes(self._rest[:PIECE]), last=False)
            del self._rest[:PIECE]
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._put(bytes(self._rest), last=True)
        super().close()

    def _put(self, piece: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last=last), piece, self._header))
        self._number += 1


def is_sealed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def unseal(path: Path, target: IO[bytes], passphrase: bytes) -> None:
    """Writes what the sealed file holds. Raises `Problem`: what was written until then counts for nothing."""
    with path.open("rb") as file:
        header = file.read(len(MAGIC) + SALT)
        cipher, number = _cipher(header, passphrase), 0
        piece = file.read(PIECE + TAG)
        while True:
            following = file.read(PIECE + TAG)
            try:
                target.write(cipher.decrypt(_nonce(number, last=not following), piece, header))
            except InvalidTag:
                raise Problem(
                    str(path),
                    "does not open: the passphrase is another one, or the file was changed or cut short",
                    remedy="try the passphrase that it was written with, or take another copy of it",
                ) from None
            if not following:
                return
            piece, number = following, number + 1


def read_passphrase(path: Path) -> bytes:
    """The first line of the file, which others may not read."""
    if not path.is_file():
        raise Problem(str(path), "there is no such file", expected="a passphrase in it", remedy="check the path")
    if path.stat().st_mode & 0o077:
        raise Problem(str(path), "can be read by others", remedy=f"chmod 600 {path}")
    passphrase, _, _ = path.read_bytes().partition(b"\n")
    if len(passphrase.strip()) < SHORTEST:
        raise Problem(str(path), "holds a passphrase that is too short", expected=f"at least {SHORTEST} characters")
    return passphrase.strip()


def _cipher(header: bytes, passphrase: bytes) -> AESGCM:
    return AESGCM(Scrypt(header[len(MAGIC) :], 32, **SCRYPT).derive(passphrase))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
