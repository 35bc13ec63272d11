"""What opens a sealed vault: a file with keys, or a file with passphrases, the newest on the first line.

There is more than one only while `rotate` seals everything anew. Neither file's content is ever shown or logged.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from polyward_client.site import Site
from polyward_shared.pki import write_secret
from polyward_shared.problems import Problem
from polyward_shared.whole import make_private, whole_file

SALT_BYTES = 16
NO_SALT = bytes(SALT_BYTES)
SECRET_BYTES = 32  # AES-256
SALT = "salt"  # the file with the vault's own, beside its studies
WORD = "polyward-vault-key"
SCRYPT = {"n": 1 << 17, "r": 8, "p": 1}  # 128 MiB and about half a second: what OWASP asks of scrypt
SHORTEST = 12  # characters of a passphrase


@dataclass(frozen=True, slots=True)
class Key:
    """A key of 256 bits, from which each file's own is derived. `salt` made it of a passphrase; zeros otherwise."""

    secret: bytes = field(repr=False)
    salt: bytes = NO_SALT

    @property
    def id(self) -> bytes:
        """Tells keys apart and says nothing about them; 16 bytes."""
        return derived(self.secret, salt=self.salt, purpose=b"id", length=16)


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys or passphrases of one file, the newest first."""

    path: Path
    secrets: tuple[bytes, ...] = field(repr=False)
    passphrases: bool = False

    @property
    def noun(self) -> str:
        return "passphrase" if self.passphrases else "key"

    def newest(self, salt: bytes) -> Key:
        """The key to seal with; `salt` is the vault's."""
        return self._key(self.secrets[0], salt)

    def find(self, key_id: bytes, salt: bytes) -> Key | None:
        """The key of this id, from the salt that the sealed file names."""
        keys = (self._key(secret, salt) for secret in self.secrets)
        return next((key for key in keys if key.id == key_id), None)

    def _key(self, secret: bytes, salt: bytes) -> Key:
        return Key(_stretched(secret, salt), salt) if self.passphrases else Key(secret)


def derived(secret: bytes, *, salt: bytes, purpose: bytes, length: int = SECRET_BYTES) -> bytes:
    """HKDF-SHA256 (RFC 5869)."""
    return HKDF(SHA256(), length, salt, b"polyward vault 1 " + purpose).derive(secret)


@lru_cache(maxsize=16)
def _stretched(passphrase: bytes, salt: bytes) -> bytes:
    """scrypt (RFC 7914), once for a salt: a vault has one."""
    return Scrypt(salt, SECRET_BYTES, **SCRYPT).derive(passphrase)


def open_ring(site: Site) -> Ring | None:
    """What opens the site's vault, or None where `site.toml` names neither key nor passphrase. Raises `Problem`."""
    kept, folder = site.file.vault, site.path.parent
    if kept.key and kept.passphrase:
        raise Problem(
            str(site.path),
            "vault: both key and passphrase are set",
            expected="one of them",
            remedy="keep the one that the vault was sealed with",
        )
    if kept.key:
        return read_keys(folder / Path(os.path.expandvars(kept.key)))
    if kept.passphrase:
        return read_passphrases(folder / Path(os.path.expandvars(kept.passphrase)))
    return None


def new_vault_key(path: Path) -> None:
    """Makes a key file, 0600. Raises `Problem` where there is a file already: a key is never overwritten."""
    write_secret(path, _key_lines([os.urandom(SECRET_BYTES)]))


def read_keys(path: Path) -> Ring:
    """The keys of a key file. Raises `Problem` if it is absent, readable by others, or no such file."""
    lines = _secret_lines(
        path, "key", "bring it back; for a vault that holds nothing yet, `polyward-node vault key` makes one"
    )
    try:
        secrets = tuple(bytes.fromhex(line.removeprefix(WORD)) for line in lines)
    except ValueError:
        secrets = ()
    whole = all(line.startswith(WORD) for line in lines) and {len(secret) for secret in secrets} == {SECRET_BYTES}
    if not whole:
        raise Problem(
            str(path), "is not a key file of a vault, or damaged", remedy="bring back the file that the vault had"
        )
    return Ring(path, secrets)


def read_passphrases(path: Path) -> Ring:
    """The passphrases of a file, one on each line. Raises `Problem` like `read_keys`, and for a short one."""
    lines = _secret_lines(path, "passphrase", "write one into it, and `chmod 600` it")
    if not lines or any(len(line) < SHORTEST for line in lines):
        raise Problem(
            str(path),
            "holds no passphrase, or a short one",
            expected=f"at least {SHORTEST} characters on its first line",
            remedy="take some words by chance, such as six of a word list",
        )
    return Ring(path, tuple(line.encode() for line in lines), passphrases=True)


def rewrite(ring: Ring, secrets: tuple[bytes, ...]) -> Ring:
    """Puts these secrets into the ring's file, whole or not at all. Raises `Problem` where it cannot be written."""
    lines = b"".join(secret + b"\n" for secret in secrets) if ring.passphrases else _key_lines(secrets)
    try:
        with whole_file(ring.path.resolve()) as file:
            file.write(lines)
    except OSError as error:
        raise Problem(
            str(ring.path),
            f"cannot be written ({error.strerror})",
            remedy="run this as the user that may, or change the file by hand: the new line above the old one",
        ) from None
    return Ring(ring.path, secrets, ring.passphrases)


def vault_salt(folder: Path) -> bytes:
    """The vault's salt, made when it is first needed. What is sealed names its own as well, so losing it is no loss."""
    path = folder / SALT
    try:
        salt = path.read_bytes()
    except FileNotFoundError:
        salt = b""
    if len(salt) != SALT_BYTES:
        salt = os.urandom(SALT_BYTES)
        make_private(folder)
        with whole_file(path) as file:
            file.write(salt)
    return salt


def _key_lines(secrets: tuple[bytes, ...] | list[bytes]) -> bytes:
    return "".join(f"{WORD} {secret.hex()}\n" for secret in secrets).encode()


def _secret_lines(path: Path, what: str, remedy: str) -> list[str]:
    try:
        if path.stat().st_mode & 0o077:
            raise Problem(str(path), f"other users may read this {what}", remedy=f"chmod 600 {path}")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Problem(str(path), f"[vault] {what} names this file, and it is not there", remedy=remedy) from None
    except UnicodeDecodeError:
        raise Problem(str(path), "is not UTF-8 text", remedy=remedy) from None
    except OSError as error:
        raise Problem(str(path), f"cannot be read ({error.strerror})", remedy=remedy) from None
    return [line.strip() for line in text.splitlines() if line.strip()]
