"""What a site and the hub sign for one another, so that neither can rewrite its history alone.

The site states how long its record of everything sent is and the hash of its last line (`chain`), signed with its
node's key. The hub answers that it has seen that statement, and where its own history of rounds stands, signed with
its server's key. Each keeps what the other has signed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from pydantic import Field

from polyward_shared.chain import GENESIS
from polyward_shared.reading import Frozen


class Checkpoint(Frozen):
    """A site's statement. `count` lines, the last of which has this hash."""

    site: str
    count: int = Field(ge=0)
    hash: str
    at: str

    def statement(self) -> bytes:
        """The bytes that the site signs."""
        return canonical("polyward checkpoint", self)


class Receipt(Frozen):
    """The hub's answer to a site's statement: so many rounds are committed, and this is their digest."""

    site: str
    count: int = Field(ge=0)
    hash: str
    at: str
    rounds: int = Field(ge=0)
    head: str

    def statement(self) -> bytes:
        """The bytes that the hub signs."""
        return canonical("polyward receipt", self)


def head_after(rounds: Iterable[tuple[str, ...]], head: str = GENESIS) -> str:
    """The digest of the hub's history: a hash chain over its committed rounds, oldest first, each a row of words."""
    for row in rounds:
        head = hashlib.sha256(json.dumps([head, *row], separators=(",", ":")).encode()).hexdigest()
    return head


def canonical(purpose: str, stated: Frozen) -> bytes:
    """One spelling of what is signed; the purpose keeps a signature from serving another one."""
    return json.dumps([purpose, stated.model_dump(mode="json")], sort_keys=True, separators=(",", ":")).encode()
