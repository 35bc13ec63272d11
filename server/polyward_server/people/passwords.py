"""Passwords: argon2id with the library's present parameters, which are those of RFC 9106 for small machines."""

from __future__ import annotations

import functools
import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from polyward_shared.problems import Problem

SHORTEST, LONGEST = 12, 256  # characters
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is read aloud as something else

_hasher = PasswordHasher()


def checked(name: str, password: str) -> str:
    """The password, if it may be `name`'s. Raises `Problem`, in which it does not stand."""
    plain = _normal(password)
    if not SHORTEST <= len(plain) <= LONGEST:
        raise Problem("the password", f"has {len(plain)} characters", expected=f"{SHORTEST} to {LONGEST}")
    if plain.casefold() == name.casefold() or len(set(plain)) < 4:
        raise Problem("the password", "is guessed at once", remedy="choose several words that do not belong together")
    return plain


def hashed(password: str) -> str:
    """What the ledger keeps: salt, parameters and hash. Takes a tenth of a second and 64 MiB."""
    return _hasher.hash(_normal(password))


def is_right(stored: str, password: str) -> bool:
    """Whether this is the password. Takes as long where nothing is stored, so that time tells no names."""
    try:
        return _hasher.verify(stored or _nobodys(), _normal(password)) and bool(stored)
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(stored: str) -> bool:
    """Whether it was hashed with other parameters than today's."""
    return _hasher.check_needs_rehash(stored)


def first_password() -> str:
    """A password that nobody chose, 99 bits, to be told once and changed."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(5)) for _ in range(4))


@functools.cache
def _nobodys() -> str:
    return _hasher.hash(secrets.token_hex(32))


def _normal(password: str) -> str:
    """One form for what several keyboards write differently."""
    return unicodedata.normalize("NFKC", password)
