"""What the hub does with a gate's messages. Who speaks is the certificate of the connection; messages name nobody."""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import grpc
from cryptography import x509
from google.protobuf.message import DecodeError

from polyward_server.control.said import progressed, status_record
from polyward_server.enrolment import Authority
from polyward_server.hub import Hub, bind_address
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.roster import Contact, Issued, Roster
from polyward_shared.checkpoints import Checkpoint, Receipt, head_after
from polyward_shared.pki import (
    CLOCK_SLACK,
    certificate_to_pem,
    is_signed,
    public_from_pem,
    public_key_pem,
    read_key,
    read_request,
    signed,
)
from polyward_shared.problems import Problem
from polyward_shared.protos import CONNECT, MOST_BYTES, PROTOCOL, RENEW, SERVICE
from polyward_shared.protos import control_pb2 as pb

log = logging.getLogger(__name__)

LONGEST_SILENCE = 30.0  # seconds without a message; gates speak every few seconds
AT_ONCE = 128  # connections; each holds two threads
WRITE_SECONDS = 1.0  # between what is kept of a site that only says the same again
SOFTWARE = re.compile(r"[a-z]+ [0-9a-z.+]+(, [a-z]+ [0-9a-z.+]+){0,7}")
DIGEST = re.compile(r"[0-9a-f]{64}")
TIME = re.compile(r"[0-9T:.+\-]{10,40}")  # ISO 8601
LARGEST_NUMBER = 2**63 - 1  # that the database can keep
MESSAGES_AT_ONCE, MESSAGES_A_SECOND = 500, 20.0  # gates say a few a second; all others a flood


class Connection:
    """One gate that is connected: its mail, and what is known of it."""

    def __init__(self, site: str, serial: int) -> None:
        self.site = site
        self.serial = serial
        self.mail: queue.Queue[pb.FromHub | None] = queue.Queue()  # None ends the connection
        self.contact = Contact(site, True, time.time())
        self.written = 0.0


class Service:
    """All connections. Every method that gRPC calls runs in a thread of its own."""

    def __init__(self, hub: Hub, ledger: Ledger, roster: Roster, authority: Authority) -> None:
        self._ledger = ledger
        self._roster = roster
        self._authority = authority
        self._key = read_key(hub.key)
        self._certificate = hub.certificate.read_bytes()
        self._connections: dict[str, Connection] = {}
        self._lock = threading.Lock()

    # --- what gRPC calls

    def connect(self, said: Iterator[pb.FromNode], context: grpc.ServicerContext) -> Iterator[pb.FromHub]:
        """One gate's connection, until it or we end it. A second one of the same site takes the first one's place."""
        issued = self._authenticated(context)
        connection = Connection(issued.site, int(issued.serial, 16))
        with self._lock:
            before, self._connections[connection.site] = self._connections.get(connection.site), connection
        if before is not None:
            before.mail.put(None)
        threading.Thread(target=self._listen, args=(connection, said), name="gate", daemon=True).start()
        try:
            while context.is_active():
                try:
                    message = connection.mail.get(timeout=1.0)
                except queue.Empty:
                    if time.time() - connection.contact.at > LONGEST_SILENCE:
                        return
                    continue
                if message is None:
                    return
                yield message
        finally:
            self._closed(connection)

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
        """Passes on commands that wait, and ends the connections of sites that were put out."""
        with self._lock:
            here = dict(self._connections)
        if not here:
            return
        good = self._roster.keys()
        for site, connection in here.items():
            issued = self._roster.certificate(connection.serial)
            if site not in good or issued is None or issued.revoked:
                connection.mail.put(None)
        for waiting in self._roster.orders():
            if (there := here.get(waiting.site)) is not None:
                order = {"wake": pb.WAKE, "cancel": pb.CANCEL}[waiting.what]
                command = pb.Command(id=waiting.id, order=order, study=waiting.study)
                there.mail.put(pb.FromHub(command=command))
                self._roster.ordered(waiting.id, waiting.site, "sent")

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
                if flood or not self._hear(connection, message):
                    log.warning("%s said what no gate says; its connection ends", connection.site)
                    break
        except grpc.RpcError:
            pass  # it went away
        finally:
            connection.mail.put(None)

    def _hear(self, connection: Connection, message: pb.FromNode) -> bool:
        """What one message changes. False for one that is not as this side expects."""
        match message.WhichOneof("said"):
            case "hello":
                return self._greet(connection, message.hello)
            case _ if not connection.contact.software:
                return False  # the first message must be a greeting
            case "status":
                return self._note(connection, message.status)
            case "checkpoint":
                return self._countersign(connection, message.checkpoint)
            case "withdrawal":
                if message.withdrawal.study in self._ledger.studies_in("queued", "running", "stopped", "finished"):
                    self._ledger.leave(message.withdrawal.study, connection.site)
                return True
            case "answer":
                if message.answer.id > LARGEST_NUMBER:
                    return False
                state = "obeyed" if message.answer.obeyed else "declined"
                self._roster.ordered(message.answer.id, connection.site, state)
                return True
        return False

    def _greet(self, connection: Connection, hello: pb.Hello) -> bool:
        if hello.protocol != PROTOCOL or not SOFTWARE.fullmatch(hello.software):
            return False
        self._update(connection, software=hello.software)
        log.info("%s is here (%s)", connection.site, hello.software)
        return True

    def _note(self, connection: Connection, status: pb.Status) -> bool:
        record = status_record(status)
        if record is None:
            return False
        moved = progressed(connection.contact.status, record)
        since = time.time() if moved else connection.contact.progressed
        self._update(connection, status=record, progressed=since)
        return True

    def _countersign(self, connection: Connection, said: pb.Checkpoint) -> bool:
        issued = self._roster.certificate(connection.serial)
        formed = DIGEST.fullmatch(said.hash) and TIME.fullmatch(said.at) and said.count <= LARGEST_NUMBER
        if issued is None or not formed:
            return False
        checkpoint = Checkpoint(site=connection.site, count=said.count, hash=said.hash, at=said.at)
        if not is_signed(public_from_pem(issued.public_key.encode()), checkpoint.statement(), said.signature):
            return False
        history = self._ledger.history()
        receipt = Receipt(**checkpoint.model_dump(), rounds=len(history), head=head_after(history))
        wrong = self._roster.keep(receipt, said.signature, issued.public_key)
        if wrong:
            log.error("the record of %s was rewritten: %s", connection.site, wrong)
            self._ledger.note(Event("", 0, connection.site, "rewritten", wrong))
        answer = receipt.model_dump(exclude={"site"})
        signature = signed(self._key, receipt.statement())
        connection.mail.put(
            pb.FromHub(receipt=pb.Receipt(**answer, signature=signature, certificate=self._certificate))
        )
        return True

    def _update(self, connection: Connection, **changes: Any) -> None:
        """Keeps what is new; a site that says the same again is written once a second at most."""
        before = connection.contact
        values = {"software": before.software, "status": before.status, "progressed": before.progressed, **changes}
        connection.contact = Contact(connection.site, True, time.time(), **values)
        same = (before.status, before.software) == (connection.contact.status, connection.contact.software)
        if same and time.monotonic() - connection.written < WRITE_SECONDS:
            return
        connection.written = time.monotonic()
        with self._lock:
            if self._connections.get(connection.site) is connection:  # a late word of one that ended wakes no site
                self._roster.heard(connection.contact)

    def _closed(self, connection: Connection) -> None:
        known = connection.contact
        with self._lock:
            if self._connections.get(connection.site) is not connection:
                return
            del self._connections[connection.site]
            self._roster.heard(
                Contact(connection.site, False, known.at, known.progressed, known.software, known.status)
            )
        log.info("%s is gone", connection.site)


def listen(service: Service, hub: Hub) -> grpc.Server:
    """Starts answering gates that show a certificate of this hub's authority."""
    server = grpc.server(
        ThreadPoolExecutor(AT_ONCE, thread_name_prefix="control"),
        options=[
            ("grpc.max_receive_message_length", MOST_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ],
        maximum_concurrent_rpcs=AT_ONCE,
    )
    handlers: dict[str, Any] = {
        CONNECT: _handler(grpc.stream_stream_rpc_method_handler, service.connect, pb.FromNode, pb.FromHub),
        RENEW: _handler(grpc.unary_unary_rpc_method_handler, service.renew, pb.CertificateRequest, pb.Certificate),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    credentials = grpc.ssl_server_credentials(
        [(hub.key.read_bytes(), hub.certificate.read_bytes())], hub.ca.read_bytes(), require_client_auth=True
    )
    server.add_secure_port(f"{bind_address(hub.file.host)}:{hub.file.control_port}", credentials)
    server.start()
    return server


def _handler(kind: Callable[..., Any], method: Callable[..., Any], asked: type[Any], given: type[Any]) -> Any:
    def read(data: bytes) -> Any:
        """What are not the bytes of a message is one that says nothing, which the methods know how to refuse."""
        try:
            return asked.FromString(data)
        except DecodeError:
            return asked()

    return kind(method, request_deserializer=read, response_serializer=given.SerializeToString)


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
