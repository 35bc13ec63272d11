"""The invitation that brings a site into a federation: one string, good once and for a while.

It holds what the site needs to find the hub and to know that it is the right one, and a token that the hub knows by its
hash alone. Whoever holds it can ask for a certificate in this site's name, so it travels like a password.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated

from pydantic import AfterValidator, Field

from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen, formed, validated
from polyward_shared.study import Name

PREFIX = "polyward1."
LONGEST = 4096
PORT, LARGEST_PORT = re.compile(r"[1-9][0-9]{0,4}"), 65535
LABEL = r"[A-Za-z0-9]([A-Za-z0-9\-]{0,61}[A-Za-z0-9])?"
HOST = re.compile(rf"{LABEL}(\.{LABEL}){{0,30}}")


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        if bracketed:
            sound = bool(IPv6Address(host[1:-1]))
        elif host.rpartition(".")[2].isdecimal():  # no name ends so
            sound = bool(IPv4Address(host))
        else:
            sound = HOST.fullmatch(host) is not None
    except ValueError:
        sound = False
    if not sound or not PORT.fullmatch(port) or int(port) > LARGEST_PORT:
        raise ValueError("expected host:port, such as hub.example.org:8443")
    return text


Address = Annotated[str, AfterValidator(_address)]


class Invitation(Frozen):
    """What an invitation says."""

    site: Name
    address: Address  # of the hub, where enrolment and Flower's Fleet API answer
    control: Address  # of the hub's control plane
    authority: Annotated[str, formed(r"[0-9a-f]{64}", "64 hexadecimal digits")]  # SHA-256 of its certificate
    token: Annotated[str, formed(r"[A-Za-z0-9_\-]{43}", "43 letters and digits")]
    expires: int = Field(ge=0)  # Unix seconds


def written(invitation: Invitation) -> str:
    """The invitation as one string of letters and digits."""
    text = json.dumps(invitation.model_dump(), separators=(",", ":"))
    return PREFIX + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_invitation(text: str, *, where: str = "the invitation") -> Invitation:
    """The invitation in `text`; spaces and line breaks, as mail programs add them, do not matter. Raises `Problem`."""
    packed = "".join(text.split())
    remedy = "copy the whole of it, or ask the coordinator for a new one"
    if not packed.startswith(PREFIX) or len(packed) > LONGEST:
        found = "is empty" if not packed else f"begins with {packed[:12]!r}"
        raise Problem(where, found, expected=f"one string that begins with {PREFIX}", remedy=remedy)
    body = packed.removeprefix(PREFIX)
    try:
        data = json.loads(base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise Problem(
            where, "is damaged", expected="a string as `polyward-hub invite` wrote it", remedy=remedy
        ) from None
    return validated(data, Invitation, where=where)


def ends(invitation: Invitation) -> datetime:
    """When it stops being good."""
    return datetime.fromtimestamp(invitation.expires, UTC)
