"""Who is let in and who is put out: what a person decides on sites, on the command line and on the dashboard alike.

Every decision is one transaction with its event, which names the person.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from polyward_server.enrolment import invite as new_invitation
from polyward_server.hub import Hub
from polyward_server.roster import Asked, Roster
from polyward_shared import pki
from polyward_shared.invitation import Invitation
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen, validated
from polyward_shared.study import Name

LONGEST_HOURS = 24.0 * 90


class Terms(Frozen):
    """What an invitation is to say; a site's name follows the same rule as in its own file."""

    site: Name
    hours: Annotated[float, Field(ge=0.01, le=LONGEST_HOURS)] = 72.0
    approved: bool = False  # beforehand: whoever holds it gets the certificate at once


def invite(hub: Hub, roster: Roster, site: str, *, hours: float, approved: bool, actor: str) -> Invitation:
    """A new invitation, good once. Raises `Problem` for a name that no site can have."""
    terms = {"site": site, "hours": hours, "approved": approved}
    validated(terms, Terms, where=f"the invitation of {site!r}")
    return new_invitation(hub, roster, site, hours=hours, approved=approved, actor=actor)


def withdraw(roster: Roster, token_hash: str, *, actor: str) -> str:
    """Takes an invitation back that nobody has used yet, and returns whose it was."""
    for asked in roster.invited():
        if asked.token == token_hash and roster.decide(token_hash, approve=False, actor=actor):
            return asked.site
    raise Problem(
        "the invitation", "was used, withdrawn or replaced meanwhile", remedy="look at who asks to join, and at sites"
    )


def approve(roster: Roster, site: str, fingerprint: str, *, actor: str) -> None:
    """Lets a site in whose people read out this fingerprint of its key. Raises `Problem` if it asks with another."""
    asked = request_of(roster, site)
    shown = fingerprint_of(asked)
    told = "".join(fingerprint.split()).lower()
    if told != shown.replace(" ", ""):
        raise Problem(
            site, f"asks with a key of the fingerprint {shown}", expected=fingerprint.strip(), remedy="do not approve"
        )
    _decide(roster, asked, approve=True, actor=actor)


def reject(roster: Roster, site: str, *, actor: str) -> None:
    """Turns a site's request down; its invitation is good no more."""
    _decide(roster, request_of(roster, site), approve=False, actor=actor)


def revoke(roster: Roster, site: str, *, actor: str) -> None:
    """Puts a site out at once: its certificate, its key, its open connections and its invitations."""
    roster.revoke(site, actor=actor)


def request_of(roster: Roster, site: str) -> Asked:
    """The site's request that waits for a person's word. Raises `Problem`."""
    for asked in roster.waiting(approved=False):
        if asked.site == site:
            return asked
    raise Problem(site, "has no request that waits for approval", remedy="polyward-hub sites HUB shows who asks")


def fingerprint_of(asked: Asked) -> str:
    """Of the key that a request is for, as the site's people read it out."""
    return pki.fingerprint(pki.public_key_pem(pki.read_request(asked.request.encode())[1]))


def _decide(roster: Roster, asked: Asked, *, approve: bool, actor: str) -> None:
    if not roster.decide(asked.token, approve=approve, actor=actor):
        raise Problem(asked.site, "was decided on by somebody else meanwhile", remedy="look again")
