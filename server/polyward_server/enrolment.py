"""How a site gets into the federation: an invitation, a request for a certificate, a person's word, the certificate.

The door that strangers reach (`reception`) writes requests into the roster and reads certificates out of it; the key
of the authority is held by the control plane alone, which signs what is approved.
"""

from __future__ import annotations

import logging
import secrets
import time
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from polyward_server.hub import Hub
from polyward_server.roster import Roster
from polyward_shared import pki
from polyward_shared.invitation import Invitation
from polyward_shared.problems import Problem

log = logging.getLogger(__name__)


class Authority:
    """The hub's certificate authority: what it signs lives as long as the hub's file says."""

    def __init__(self, hub: Hub) -> None:
        self.certificate = pki.read_certificate(hub.ca)
        self._key = pki.read_key(hub.ca_key)
        self._lifetime = timedelta(days=hub.file.certificate_days)

    def certify(self, site: str, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """A new certificate for the site's key."""
        return pki.new_node_certificate(site, key, self._lifetime, self._key, self.certificate)


def invite(hub: Hub, roster: Roster, site: str, *, hours: float, approved: bool, actor: str = "") -> Invitation:
    """A new invitation for a site, good once and for so many hours."""
    token = secrets.token_urlsafe(32)
    expires = int(time.time() + 3600 * hours)
    address, control = hub.addresses
    invitation = Invitation(
        site=site,
        address=address,
        control=control,
        authority=pki.authority_fingerprint(pki.read_certificate(hub.ca)),
        token=token,
        expires=expires,
    )
    roster.invite(site, token, expires, approved=approved, actor=actor)
    return invitation


def sign_approved(roster: Roster, authority: Authority) -> list[str]:
    """Gives every approved request its certificate; returns the sites that got one."""
    served = []
    for asked in roster.waiting(approved=True):
        name, key = pki.read_request(asked.request.encode())
        if name != asked.site:  # the reception refuses it before; this is the last look before the signature
            log.error("a request for %s came with the invitation of %s; rejected", name, asked.site)
            roster.decide(asked.token, approve=False)
            continue
        try:
            roster.issue(asked.site, authority.certify(asked.site, key), invitation=asked.token)
        except Problem as problem:  # another site's key, or taken back this very moment
            log.error("%s", problem)
            roster.decide(asked.token, approve=False)
            continue
        served.append(asked.site)
    return served
