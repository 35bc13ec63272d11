"""Joining a federation: from an invitation to a key, a certificate and a site file on this machine.

The first connection does not know the hub's authority yet: it fetches the authority's certificate and compares it with
the fingerprint in the invitation. Everything after that, the token first of all, goes over TLS that this authority
vouches for.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from polyward_client.site import Site, read_site
from polyward_shared import pki
from polyward_shared.invitation import Invitation
from polyward_shared.problems import Problem
from polyward_shared.proxy import spare_loopback_the_proxy
from polyward_shared.reading import Frozen, formed
from polyward_shared.whole import write_whole

ASK_SECONDS = 0.3  # between questions at first; five seconds after a while
SLOW_SECONDS = 5.0
SOCKET_SECONDS = 20.0
LARGEST_ANSWER = 64 * 1024
AUTHORITY, ENROLMENT = "/v1/enrolment/authority", "/v1/enrolment"

TEMPLATE = """\
# The site. Complete it, then: polyward-node check site.toml --study STUDY
name = "{name}"
tasks = []                  # of the study, those that this site trains, such as ["mask", "malignant"]
state = "state"             # everything that the node keeps; no images

[data]
root = "data"               # the folder with the images
manifest = "manifest.csv"   # `polyward-node manifest site.toml` writes one

[hub]
address = "{address}"
control = "{control}"
ca = "ca.pem"

[vault]
key = "state/trainer/vault.key"   # better on another disk: what was trained here cannot be read without it
"""

REFUSALS = {
    "unknown": ("the hub does not know this invitation", "ask the coordinator for a new one"),
    "expired": ("this invitation has expired", "ask the coordinator for a new one"),
    "used": (
        "this invitation has been used already, with another key",
        "if that was not you, tell the coordinator at once; ask for a new one either way",
    ),
    "name": ("this invitation is for a site of another name", "use it in the folder of that site"),
    "rejected": ("the coordinator has rejected this request", "ask the coordinator why"),
    "revoked": ("this node's key was revoked", "move state/gate/node.key in the site's folder away and enrol again"),
    "malformed": ("the hub did not understand the request", "use the same version of polyward at both ends"),
}


class Said(Frozen):
    """What the hub answers to a request."""

    state: Annotated[str, formed(r"[a-z]{0,20}", "one word")] = ""
    certificate: str = ""  # PEM
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Asking:
    """A request on its way: what to show people, and what the hub says."""

    fingerprint: str
    state: str


def prepare(invitation: Invitation, folder: Path) -> Site:
    """The site's folder with its file, the hub's authority and a key, each made unless it is there.

    Raises `Problem`.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "site.toml"
    if not path.exists():
        text = TEMPLATE.format(name=invitation.site, address=invitation.address, control=invitation.control)
        write_whole(path, text.encode(), mode=0o644)
    site = read_site(path)
    hub = site.file.hub
    if site.name != invitation.site or hub is None or hub.address != invitation.address:
        raise Problem(
            str(path),
            f"is for {site.name} at {hub.address if hub else 'no hub'}",
            expected=f"{invitation.site} at {invitation.address}, as the invitation says",
            remedy="choose another --folder, or correct the file",
        )
    authority = fetch_authority(invitation)
    if not site.ca.exists() or site.ca.read_bytes() != authority:
        write_whole(site.ca, authority, mode=0o644)
    if not site.key.exists():
        (site.gate / "node.csr").unlink(missing_ok=True)  # of a key that was moved away
        pki.write_secret(site.key, pki.key_to_pem(pki.new_key()))
    return site


def fetch_authority(invitation: Invitation) -> bytes:
    """The certificate (PEM) of the hub's authority, if it has the fingerprint that the invitation names."""
    untrusted = ssl.create_default_context()
    untrusted.check_hostname = False
    untrusted.verify_mode = ssl.CERT_NONE  # what comes is compared with the invitation's fingerprint
    with _client(invitation, untrusted) as client:
        _, answer = _call(client, invitation, "GET", AUTHORITY)
    try:
        certificate = x509.load_pem_x509_certificate(answer)
    except ValueError:
        certificate = None
    if certificate is None or pki.authority_fingerprint(certificate) != invitation.authority:
        raise Problem(
            invitation.address,
            "is not the hub that the invitation speaks of (its authority has another fingerprint)",
            remedy="do not go on; tell the coordinator, and your network's people: something may stand in between",
        )
    return pki.certificate_to_pem(certificate)


def enrol(invitation: Invitation, site: Site, tell: Callable[[Asking], None], *, patience: float) -> x509.Certificate:
    """Asks for the certificate until it comes, and keeps it. `tell` hears each answer. Raises `Problem`."""
    key = pki.read_key(site.key)
    request = _request_of(site)
    trusted = ssl.create_default_context(cadata=site.ca.read_text(encoding="ascii"))
    shown = pki.fingerprint(pki.public_pem(key).decode())
    began, pause = time.monotonic(), ASK_SECONDS
    with _client(invitation, trusted) as client:
        while True:
            said = _asked(client, invitation, request)
            tell(Asking(shown, said.state))
            if said.certificate:
                return keep_certificate(site, said.certificate.encode())
            if time.monotonic() - began > patience:
                raise Problem(
                    invitation.site,
                    f"the coordinator has not approved it within {patience:.0f} s",
                    remedy="run the same command again once that is done; nothing is lost",
                )
            time.sleep(pause)
            pause = min(pause * 1.3, SLOW_SECONDS)


def keep_certificate(site: Site, pem: bytes) -> x509.Certificate:
    """Writes the node's certificate, whole or not at all, if it fits key, name and authority. Raises `Problem`."""
    certificate = fitting_certificate(site, pem, pki.read_key(site.key))
    write_whole(site.certificate, pem, mode=0o644)
    return certificate


def fitting_certificate(site: Site, pem: bytes, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """The certificate, if it is for this key and the site's name and of its authority. Raises `Problem`."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(site.ca.read_bytes()))
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        fits = certificate.public_key() == key.public_key() and names[0].value == site.name
    except (ValueError, TypeError, IndexError, InvalidSignature, UnsupportedAlgorithm):
        fits = False
    if not fits:
        raise Problem(
            site.name,
            "the hub sent a certificate for another key or name, or of another authority",
            remedy="tell the coordinator; the node keeps the certificate that it has",
        )
    return certificate


def _request_of(site: Site) -> str:
    """The request, the same each time: a signature is never the same twice, and the token is bound to the first."""
    path = site.gate / "node.csr"
    if not path.exists():
        write_whole(path, pki.new_request(site.name, pki.read_key(site.key)))
    return path.read_text(encoding="ascii")


def _asked(client: httpx.Client, invitation: Invitation, request: str) -> Said:
    status, body = _call(client, invitation, "POST", ENROLMENT, {"token": invitation.token, "request": request})
    try:
        said = Said.model_validate_json(body, strict=True)
    except ValueError:
        said = Said()
    if status == httpx.codes.OK:
        return said
    found, remedy = REFUSALS.get(said.refused, (f"the hub answered {status}", "ask the coordinator"))
    raise Problem(invitation.site, found, remedy=remedy)


def _client(invitation: Invitation, trust: ssl.SSLContext) -> httpx.Client:
    spare_loopback_the_proxy()
    return httpx.Client(base_url=f"https://{invitation.address}", verify=trust, timeout=SOCKET_SECONDS)


def _call(
    client: httpx.Client, invitation: Invitation, method: str, path: str, body: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and body of the answer. No more of it is read than an answer can have: at first anybody may give it."""
    content = b""
    try:
        with client.stream(method, path, json=body, headers={"accept-encoding": "identity"}) as answer:
            for part in answer.iter_raw():
                content += part
                if len(content) > LARGEST_ANSWER:
                    break
    except httpx.TransportError as error:
        why = (
            "does not show the certificate of its authority"
            if "CERTIFICATE" in str(error)
            else f"cannot be reached ({error})"
        )
        raise Problem(
            invitation.address, why, remedy="check network, firewall and HTTPS_PROXY; the coordinator says if it runs"
        ) from None
    if len(content) > LARGEST_ANSWER:
        raise Problem(invitation.address, "answered something that is no hub's answer", remedy="check the address")
    return answer.status_code, content
