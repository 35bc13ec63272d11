"""A hub in an attacker's hands: its keys are right, so gates connect, and what it says is anything at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from polyward_client.gate.control import ControlLink
from polyward_client.site import Site, read_site
from polyward_shared import pki
from polyward_shared.chain import Chain
from polyward_shared.protos import CONNECT, RENEW, SERVICE
from polyward_shared.protos import control_pb2 as pb

Says = Callable[[Iterator[pb.FromNode]], Iterator[bytes]]


class HostileHub:
    """`says` gets what a gate says and gives the bytes of messages; `renews` the bytes of a certificate."""

    def __init__(self, folder: Path, says: Says, renews: Callable[[bytes], bytes] = lambda request: b"") -> None:
        self.authority_key, self.authority = pki.new_authority("hostile")
        self.server_key = pki.new_key()
        self.server = pki.new_server_certificate(["127.0.0.1"], self.server_key, self.authority_key, self.authority)
        self.connections = 0
        self._says, self._renews = says, renews
        self._server = grpc.server(ThreadPoolExecutor(8))
        handlers: dict[str, Any] = {
            CONNECT: grpc.stream_stream_rpc_method_handler(self._connect, pb.FromNode.FromString),
            RENEW: grpc.unary_unary_rpc_method_handler(lambda asked, _: self._renews(asked)),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        credentials = grpc.ssl_server_credentials(
            [(pki.key_to_pem(self.server_key), pki.certificate_to_pem(self.server))],
            pki.certificate_to_pem(self.authority),
            require_client_auth=True,
        )
        port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()
        self.address = f"127.0.0.1:{port}"
        self.site = self._site(folder)

    def certify(self, name: str, key: ec.EllipticCurvePublicKey, days: float = 1.0) -> x509.Certificate:
        return pki.new_node_certificate(name, key, timedelta(days=days), self.authority_key, self.authority)

    def close(self) -> None:
        self._server.stop(grace=0).wait()

    def _connect(self, said: Iterator[pb.FromNode], _: grpc.ServicerContext) -> Iterator[bytes]:
        self.connections += 1
        yield from self._says(said)

    def _site(self, folder: Path) -> Site:
        path = folder / "site.toml"
        path.write_text(f'name = "a"\ntasks = []\n[hub]\naddress = "{self.address}"\ncontrol = "{self.address}"\n')
        site = read_site(path)
        site.ca.write_bytes(pki.certificate_to_pem(self.authority))
        pki.write_secret(site.key, pki.key_to_pem(pki.new_key()))
        site.certificate.write_bytes(pki.certificate_to_pem(self.certify("a", pki.read_key(site.key).public_key())))
        return site


@contextmanager
def linked(hub: HostileHub, heard: list[str] | None = None) -> Iterator[ControlLink]:
    """The site's connection to such a hub; `heard` gets what the gate does at its word."""
    words = [] if heard is None else heard
    link = ControlLink(
        hub.site,
        hub.address,
        Chain(hub.site.sent),
        cancel=lambda: words.append("cancel"),
        wake=lambda: words.append("wake"),
    )
    link.start()
    try:
        yield link
    finally:
        link.close()
        hub.close()
