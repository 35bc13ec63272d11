"""True identifiers of patients -> names that say nothing, always the same ones at this site."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from pathlib import Path

from polyward_client.trainer.manifest import read_table
from polyward_shared.pki import write_secret
from polyward_shared.problems import Problem

SECRET_BYTES = 32
DIGITS = 16  # hexadecimal: two of a million patients share one with a chance of 3 in 100 million

Pseudonym = Callable[[str], str | None]


def keyed(secret_file: Path) -> Pseudonym:
    """HMAC-SHA-256 (RFC 2104) under a secret that stays in this file, made if it is not there. Raises `Problem`.

    Without the secret nobody can find out whose pseudonym it is by trying all identifiers.
    """
    if not secret_file.exists():
        write_secret(secret_file, secrets.token_bytes(SECRET_BYTES))
    if secret_file.stat().st_mode & 0o077:
        raise Problem(str(secret_file), "other users may read this secret", remedy=f"chmod 600 {secret_file}")
    secret = secret_file.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise Problem(str(secret_file), "is damaged", expected=f"{SECRET_BYTES} bytes", remedy="take it from a backup")
    return lambda identifier: "p" + hmac.digest(secret, identifier.encode(), hashlib.sha256).hex()[:DIGITS]


def tabled(table: Path) -> Pseudonym:
    """What a table's second column says of its first; None for whom it does not list. Raises `Problem`."""
    rows = read_table(table, remedy="check the path")
    if len(rows.columns) != 2:
        raise Problem(str(table), f"has {len(rows.columns)} columns", expected="two: the PatientID, and its pseudonym")
    pairs = [(str(old), str(new)) for old, new in rows.itertuples(index=False) if old and new]
    if len({old for old, _ in pairs}) < len(pairs):
        raise Problem(str(table), "lists a PatientID twice", expected="each once", remedy="remove one of the rows")
    return dict(pairs).get
