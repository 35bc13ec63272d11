"""What a gate's messages change. Who speaks is the certificate of the connection; messages name nobody."""

from __future__ import annotations

import logging
import re
import time

from polyward_server.commands import ordered
from polyward_server.control.connections import Connection, Connections
from polyward_server.control.head import Head
from polyward_server.control.said import approvals_record, progressed, status_record, timings_record
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.records import Event, State
from polyward_server.roster import Roster
from polyward_server.statements import keep_statement
from polyward_shared.checkpoints import Checkpoint, Receipt
from polyward_shared.pki import is_signed, public_from_pem, read_key, signed
from polyward_shared.protos import PROTOCOL
from polyward_shared.protos import control_pb2 as pb

log = logging.getLogger(__name__)

SOFTWARE = re.compile(r"[a-z]+ [0-9a-z.+]+(, [a-z]+ [0-9a-z.+]+){0,7}")
DIGEST = re.compile(r"[0-9a-f]{64}")
TIME = re.compile(r"[0-9T:.+\-]{10,40}")  # ISO 8601
LARGEST_NUMBER = 2**63 - 1  # that the database can keep


class Hearing:
    """Takes messages of all connections, each in the thread that reads it."""

    def __init__(self, hub: Hub, ledger: Ledger, roster: Roster, connections: Connections) -> None:
        self._ledger = ledger
        self._roster = roster
        self._connections = connections
        self._head = Head(ledger)
        self._key = read_key(hub.key)
        self._certificate = hub.certificate.read_bytes()
        self._lengths: dict[str, int] = {}  # rounds of studies, which never change

    def hear(self, connection: Connection, message: pb.FromNode) -> bool:
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
            case "approvals":
                connection.approved = approvals_record(message.approvals)
                return connection.approved is not None
            case "timings":
                return self._time(connection, message.timings)
            case "withdrawal":
                if message.withdrawal.study in self._ledger.studies_in(*State):
                    self._ledger.leave(message.withdrawal.study, connection.site)
                return True
            case "answer":
                if message.answer.id > LARGEST_NUMBER:
                    return False
                state = "obeyed" if message.answer.obeyed else "declined"
                ordered(self._ledger, message.answer.id, connection.site, state)
                return True
        return False

    def _greet(self, connection: Connection, hello: pb.Hello) -> bool:
        if hello.protocol != PROTOCOL or not SOFTWARE.fullmatch(hello.software):
            return False
        self._connections.update(connection, software=hello.software)
        log.info("%s is here (%s)", connection.site, hello.software)
        return True

    def _note(self, connection: Connection, status: pb.Status) -> bool:
        record = status_record(status)
        if record is None:
            return False
        moved = progressed(connection.contact.status, record)
        since = time.time() if moved else connection.contact.progressed
        self._connections.update(connection, status=record, progressed=since)
        return True

    def _time(self, connection: Connection, timings: pb.Timings) -> bool:
        spans = timings_record(timings, time.time())
        if spans is None:
            return False
        if timings.study not in self._lengths:
            if timings.study not in self._ledger.studies_in(*State):
                return True  # of an earlier life of this hub
            self._lengths[timings.study] = self._ledger.study(timings.study).rounds
        if timings.round > self._lengths[timings.study]:
            return False
        self._connections.timed(timings.study, timings.round, connection.site, spans)
        return True

    def _countersign(self, connection: Connection, said: pb.Checkpoint) -> bool:
        issued = self._roster.certificate(connection.serial)
        formed = DIGEST.fullmatch(said.hash) and TIME.fullmatch(said.at) and said.count <= LARGEST_NUMBER
        if issued is None or not formed:
            return False
        checkpoint = Checkpoint(site=connection.site, count=said.count, hash=said.hash, at=said.at)
        if not is_signed(public_from_pem(issued.public_key.encode()), checkpoint.statement(), said.signature):
            return False
        rounds, head = self._head.now()
        receipt = Receipt(**checkpoint.model_dump(), rounds=rounds, head=head)
        wrong = keep_statement(self._ledger, receipt, said.signature, issued.public_key)
        if wrong:
            log.error("the record of %s was rewritten: %s", connection.site, wrong)
            self._ledger.note(Event("", 0, connection.site, "rewritten", wrong))
        answer = receipt.model_dump(exclude={"site"})
        signature = signed(self._key, receipt.statement())
        connection.mail.put(
            pb.FromHub(receipt=pb.Receipt(**answer, signature=signature, certificate=self._certificate))
        )
        return True
