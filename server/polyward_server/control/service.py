"""What gRPC calls when a gate connects or asks for a certificate, and what the clerk does for those that are here."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import grpc
from cryptography import x509

from polyward_server.commands import ordered, orders
from polyward_server.control.connections import Connection, Connections
from polyward_server.control.hearing import Hearing
from polyward_server.enrolment import Authority
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.records import State
from polyward_server.roster import Issued, Roster
from polyward_server.told import keep_approvals
from polyward_shared.pki import (
    CLOCK_SLACK,
    certificate_to_pem,
    public_key_pem,
    read_request,
)
from polyward_shared.problems import Problem
from polyward_shared.protos import control_pb2 as pb

log = logging.getLogger(__name__)

LONGEST_SILENCE = 30.0  # seconds without a message; gates speak every few seconds
APPROVALS_SECONDS = 3.0  # between changes of one site's that are kept: each is an event for ever
MESSAGES_AT_ONCE, MESSAGES_A_SECOND = 500, 20.0  # gates say a few a second; all others a flood


class Service:
    """All connections. Every method that gRPC calls runs in a thread of its own."""

    def __init__(self, hub: Hub, ledger: Ledger, roster: Roster, authority: Authority) -> None:
        self._ledger = ledger
        self._roster = roster
        self._authority = authority
        self._connections = Connections(ledger)
        self._approvals_kept: dict[str, float] = {}  # when, by site; monotonic seconds
        self.hearing = Hearing(hub, ledger, roster, self._connections)

    # --- what gRPC calls

    def connect(self, said: Iterator[pb.FromNode], context: grpc.ServicerContext) -> Iterator[pb.FromHub]:
        """One gate's connection, until it or we end it. A second one of the same site takes the first one's place."""
        issued = self._authenticated(context)
        connection = Connection(issued.site, int(issued.serial, 16))
        self._connections.open(connection)
        threading.Thread(target=self._listen, args=(connection, said), name="gate", daemon=True).start()
        try:
            while context.is_active():
                try:
                    message = connection.mail.get(timeout=1.0)
                except queue.Empty:
                    if time.monotonic() - connection.heard > LONGEST_SILENCE:
                        return
                    continue
                if message is None:
                    return
                yield message
        finally:
            if self._connections.close(connection):
                log.info("%s is gone", connection.site)

    def renew(self, asked: pb.CertificateRequest, context: grpc.ServicerContext) -> pb.Certificate:
        """A new certificate in the caller's own name, whatever key it has made."""
        caller = self._authenticated(context)
        site = caller.site
        try:
            name, key = read_request(asked.request)
            if name != site:
                raise ValueError("a request in another name")
            if self._roster.was_revoked(public_key_pem(key)):
                raise ValueError("a request for a key that was revoked")
            known = self._roster.newest(site, public_key_pem(key))
            if known is not None and _fresh(known.pem):
                return pb.Certificate(certificate=known.pem.encode())  # asked again after a lost answer
            new = self._authority.certify(site, key)
            self._roster.issue(site, new, holder=caller.public_key)
        except (ValueError, Problem) as error:
            log.warning("%s asked for a certificate that it cannot have: %s", site, error)
            raise _ended(context, grpc.StatusCode.INVALID_ARGUMENT) from None
        log.info("%s has a new certificate", site)
        return pb.Certificate(certificate=certificate_to_pem(new))

    # --- what the clerk calls

    def look_around(self) -> None:
        """Writes what was heard, passes on commands that wait, and ends connections of sites that were put out."""
        self._connections.write()
        here = self._connections.here()
        if not here:
            return
        good = self._roster.keys()
        for site, connection in list(here.items()):
            issued = self._roster.certificate(connection.serial)
            if site not in good or issued is None or issued.revoked:
                connection.mail.put(None)
                del here[site]  # its word counts no more
        known = frozenset(self._ledger.studies_in(*State))
        for site, connection in here.items():
            if connection.approved is None or (told := connection.approved & known) == connection.kept:
                continue
            if time.monotonic() - self._approvals_kept.get(site, -math.inf) >= APPROVALS_SECONDS:
                keep_approvals(self._ledger, site, told)
                connection.kept, self._approvals_kept[site] = told, time.monotonic()
        for waiting in orders(self._ledger):
            if (there := here.get(waiting.site)) is not None:
                order = {"wake": pb.WAKE, "cancel": pb.CANCEL}[waiting.what]
                command = pb.Command(id=waiting.id, order=order, study=waiting.study)
                there.mail.put(pb.FromHub(command=command))
                ordered(self._ledger, waiting.id, waiting.site, "sent")

    # --- inside

    def _authenticated(self, context: grpc.ServicerContext) -> Issued:
        """The caller's certificate: TLS has checked chain, dates and key; here it must be known and not revoked."""
        pems: Iterable[bytes] = context.auth_context().get("x509_pem_cert", ())  # type: ignore[assignment]
        for pem in pems:
            certificate = x509.load_pem_x509_certificate(pem)
            issued = self._roster.certificate(certificate.serial_number)
            good = issued is not None and not issued.revoked and issued.site == _name(certificate)
            if good and issued is not None and self._roster.keys().get(issued.site) == issued.public_key:
                return issued
        raise _ended(context, grpc.StatusCode.PERMISSION_DENIED)

    def _listen(self, connection: Connection, said: Iterator[pb.FromNode]) -> None:
        began = time.monotonic()
        try:
            for heard, message in enumerate(said, start=1):
                flood = heard > MESSAGES_AT_ONCE + MESSAGES_A_SECOND * (time.monotonic() - began)
                if flood or not self.hearing.hear(connection, message):
                    log.warning("%s said what no gate says; its connection ends", connection.site)
                    break
        except grpc.RpcError:
            pass  # it went away
        finally:
            connection.mail.put(None)


def _name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _fresh(pem: str) -> bool:
    """Whether less than a tenth of a certificate's life has passed."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    begun = certificate.not_valid_before_utc + CLOCK_SLACK
    return datetime.now(UTC) - begun < (certificate.not_valid_after_utc - begun) / 10


def _ended(context: grpc.ServicerContext, code: grpc.StatusCode) -> Exception:
    """Ends the call with a code and no text; gRPC raises what this only seems to return."""
    context.abort(code, "")
    return RuntimeError("unreachable")
