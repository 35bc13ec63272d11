"""A new key for the node, in steps that may be cut off anywhere and are then taken again.

1. The new key is written beside the old one.
2. The hub is asked, over the old certificate, for one of the new key. From then on it refuses the old key.
3. The certificate is written beside the old one; then key and certificate take their places.

If the answer of step 2 is lost, the hub knows a key that this node has but not its certificate: the new certificate
is asked for again, at most once, with the old certificate while that is still good there, otherwise by enrolling anew.
"""

from __future__ import annotations

import os

import grpc
from cryptography import x509

from polyward_client.enrolment import fitting_certificate
from polyward_client.site import Site
from polyward_shared import pki
from polyward_shared.chain import sync_folder
from polyward_shared.problems import Problem
from polyward_shared.protos import RENEW, SERVICE
from polyward_shared.protos import control_pb2 as pb
from polyward_shared.proxy import spare_loopback_the_proxy
from polyward_shared.whole import write_whole

READY_SECONDS = 15.0


def rotate_key(site: Site) -> x509.Certificate:
    """Gives the node a new key and certificate. Raises `Problem` with the old ones in place."""
    if site.file.hub is None or site.file.hub.control is None:
        raise Problem(str(site.path), "hub.control: is missing", remedy="enrol with an invitation")
    new_key, new_certificate = site.key.with_suffix(".key.new"), site.certificate.with_suffix(".pem.new")
    if not new_certificate.exists():
        if not new_key.exists():
            pki.write_secret(new_key, pki.key_to_pem(pki.new_key()))
        key = pki.read_key(new_key)
        pem = _asked(site, site.file.hub.control, pki.new_request(site.name, key))
        fitting_certificate(site, pem, key)
        write_whole(new_certificate, pem, mode=0o644)
    if new_key.exists():
        os.replace(new_key, site.key)
    os.replace(new_certificate, site.certificate)
    (site.gate / "node.csr").unlink(missing_ok=True)
    sync_folder(site.gate)
    return pki.read_certificate(site.certificate)


def _asked(site: Site, address: str, request: bytes) -> bytes:
    spare_loopback_the_proxy()
    credentials = grpc.ssl_channel_credentials(
        site.ca.read_bytes(), site.key.read_bytes(), site.certificate.read_bytes()
    )
    with grpc.secure_channel(address, credentials) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/{RENEW}",
            request_serializer=pb.CertificateRequest.SerializeToString,
            response_deserializer=pb.Certificate.FromString,
        )
        try:
            given = call(pb.CertificateRequest(request=request), timeout=READY_SECONDS)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else "no answer"
            raise Problem(
                address,
                f"gives no certificate ({code})",
                remedy="try again; when it stays so, ask the coordinator for an invitation and enrol anew",
            ) from None
    return bytes(given.certificate)
