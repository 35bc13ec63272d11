"""The gate's connection to the hub's control plane: it tells how the node is, and hears what the coordinator wants.

One stream over gRPC with mutual TLS, dialled by us, opened again whenever it ends. All that can be said on it are the
numbers, digests and words of `control.proto`; what was said is summed up in the sent-ledger. A command of the hub's is
obeyed if the site's policy allows it. The certificate renews itself here, at half of its life.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import grpc

from polyward_client.decisions import RECORD, Decision, approved, read_decisions, withdrawn
from polyward_client.enrolment import keep_certificate
from polyward_client.gate.courses import Courses
from polyward_client.gate.machine import Machine
from polyward_client.gate.receipts import keep_receipt
from polyward_client.site import Site, read_site
from polyward_shared import pki
from polyward_shared.chain import Chain, drop_torn_line
from polyward_shared.checkpoints import Checkpoint
from polyward_shared.problems import Code, Problem
from polyward_shared.protos import CONNECT, MOST_BYTES, PROTOCOL, RENEW, SERVICE
from polyward_shared.protos import control_pb2 as pb
from polyward_shared.proxy import spare_loopback_the_proxy

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5  # between looks whether there is something new to say
SPEAK_SECONDS = 5.0  # the longest silence
MACHINE_SECONDS = 5.0  # between looks at the machine
READY_SECONDS = 10.0  # to connect
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between attempts to connect; the last one repeats
NOTED_SECONDS = 600.0  # between lines of the sent-ledger about what was said here
MOST_APPROVALS = 256  # studies; of more, those decided last are told
MOST_PENDING = 100  # answers to commands; a hub that says more than it listens to is not answered
RENEWAL_PAUSE = timedelta(minutes=1)  # after a renewal that failed; a tenth of what is left if that is shorter


class ControlLink:
    """One site's connection. The methods are for any thread; `sent` is the gate's own record."""

    def __init__(
        self, site: Site, address: str, sent: Chain, *, cancel: Callable[[], None], wake: Callable[[], None]
    ) -> None:
        spare_loopback_the_proxy()
        drop_torn_line(site.checkpoints)  # else the next receipt would be added to half of one
        self._site, self._address, self._sent = site, address, sent
        self._cancel, self._wake = cancel, wake
        self._machine = Machine(site.state)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.courses = Courses()  # where those who do the work tell how it goes
        self._refusals: Counter[str] = Counter()
        self._pending: list[pb.FromNode] = []
        self._read: tuple[tuple[int, int], list[Decision]] = ((0, 0), [])  # size and time of the record; what it says
        self._told: set[str] = set()  # withdrawals that the hub knows, on this connection
        self._approved: list[str] | None = None  # approvals that it knows
        self._timed: dict[int, int] = {}  # phases of each course that it knows
        self._stated = -1  # lines of the record when its last checkpoint was sent
        self._awaited: set[tuple[int, str, str]] = set()  # checkpoints of this connection without a receipt
        self._renew_at = datetime.now(UTC)
        self._reason = ""
        self.connected = False
        self._thread = threading.Thread(target=self._stay_connected, name="control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends the connection, within a few seconds."""
        self._ended.set()
        self._thread.join(timeout=3 * TICK_SECONDS + 1)

    def refused(self, code: Code) -> None:
        with self._lock:
            self._refusals[code] += 1

    def _tell(self, reason: str) -> None:
        """Why there is no connection; the same reason once."""
        log.log(logging.INFO if reason == self._reason else logging.WARNING, "control plane: %s", reason)
        self._reason = reason

    # --- the connection

    def _stay_connected(self) -> None:
        failures = 0
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                self._converse()
            except (grpc.RpcError, grpc.FutureTimeoutError, OSError, Problem) as error:
                self._tell(_reason(error))
            except Exception:  # the outermost layer of this thread: whatever it is, the node goes on and tries again
                log.exception("the connection to the control plane failed")
            self.connected = False
            failures = 0 if time.monotonic() - began > SPEAK_SECONDS else failures + 1
            self._ended.wait(PAUSES[min(failures, len(PAUSES) - 1)])

    def _converse(self) -> None:
        """One connection from its beginning to its end."""
        certificate = pki.read_certificate(self._site.certificate)
        self._renew_at = pki.half_life(certificate)
        credentials = grpc.ssl_channel_credentials(
            self._site.ca.read_bytes(), self._site.key.read_bytes(), self._site.certificate.read_bytes()
        )
        options = [("grpc.max_receive_message_length", MOST_BYTES), ("grpc.keepalive_time_ms", 20_000)]
        with grpc.secure_channel(self._address, credentials, options=options) as channel:
            grpc.channel_ready_future(channel).result(timeout=READY_SECONDS)
            tally = Tally(self._sent)
            open_stream = channel.stream_stream(
                f"/{SERVICE}/{CONNECT}",
                request_serializer=tally.counted,
                response_deserializer=pb.FromHub.FromString,
            )
            try:
                for message in open_stream(self._spoken(channel, tally)):
                    self.connected = True
                    self._hear(message)
            finally:
                tally.note()

    def _spoken(self, channel: grpc.Channel, tally: Tally) -> Iterator[pb.FromNode]:
        """What is said on one connection, as gRPC asks for it; its end is the end of the connection."""
        self._told, self._stated, self._awaited, self._approved, self._timed = set(), -1, set(), None, {}
        yield pb.FromNode(hello=pb.Hello(protocol=PROTOCOL, software=software()))
        last, at, looked = b"", 0.0, float("-inf")
        machine = pb.Machine()
        while not self._ended.wait(TICK_SECONDS if at else 0):
            if datetime.now(UTC) >= self._renew_at and self._renewed(channel):
                return  # the next connection shows the new certificate
            if time.monotonic() - looked > MACHINE_SECONDS:
                looked, machine = time.monotonic(), self._machine.now()
            status = self._status(machine)
            written = status.SerializeToString(deterministic=True)
            if written != last or time.monotonic() - at > SPEAK_SECONDS:
                last, at = written, time.monotonic()
                yield pb.FromNode(status=status)
            yield from self._due()
            if time.monotonic() - tally.since > NOTED_SECONDS:
                tally.note()

    def _status(self, machine: pb.Machine) -> pb.Status:
        work = self.courses.work()
        with self._lock:
            refusals = dict(self._refusals)
        if self._site.paused.exists():
            state = pb.PAUSED
        elif not self._site.socket.exists():
            state = pb.TRAINER_AWAY
        else:
            state = pb.WORKING if work.study or work.phase else pb.IDLE  # what is fetched has no name yet
        return pb.Status(state=state, work=work, machine=machine, refusals=refusals)

    def _due(self) -> Iterator[pb.FromNode]:
        """Answers to commands, decisions and courses that the hub has not heard, a checkpoint when the record grew."""
        with self._lock:
            pending, self._pending = self._pending, []
        yield from pending
        decisions = self._decisions()
        given = approved(decisions)[-MOST_APPROVALS:]
        if given != self._approved:
            self._approved = given
            yield pb.FromNode(approvals=pb.Approvals(studies=given))
        for study in withdrawn(decisions) - self._told:
            self._told.add(study)
            yield pb.FromNode(withdrawal=pb.Withdrawal(study=study))
        for course, ended, timings in self.courses.news(self._timed):
            self._timed[course] = ended
            yield pb.FromNode(timings=timings)
        count, tip = self._sent.tip
        if count and count != self._stated:
            self._stated = count
            at = datetime.now(UTC).isoformat(timespec="seconds")
            statement = Checkpoint(site=self._site.name, count=count, hash=tip, at=at).statement()
            signature = pki.signed(pki.read_key(self._site.key), statement)
            self._awaited.add((count, tip, at))
            yield pb.FromNode(checkpoint=pb.Checkpoint(count=count, hash=tip, at=at, signature=signature))

    def _decisions(self) -> list[Decision]:
        """What people decided; a record that cannot be read is the gate's matter, and tells the hub of nothing."""
        try:
            info = (self._site.approved / RECORD).stat()
            if (stamp := (info.st_size, info.st_mtime_ns)) != self._read[0]:
                self._read = (stamp, read_decisions(self._site.approved))
        except (Problem, OSError):
            self._read = ((0, 0), [])
        return self._read[1]

    def _hear(self, message: pb.FromHub) -> None:
        match message.WhichOneof("said"):
            case "command":
                obeyed = self._obey(message.command)
                with self._lock:
                    if len(self._pending) < MOST_PENDING:
                        self._pending.append(pb.FromNode(answer=pb.Answer(id=message.command.id, obeyed=obeyed)))
            case "receipt":
                said = (message.receipt.count, message.receipt.hash, message.receipt.at)
                if said not in self._awaited:  # kept, it would bear witness to a record that never was
                    log.error("the hub sent a receipt for what this site has not stated")
                elif keep_receipt(self._site, message.receipt):
                    self._awaited.discard(said)

    def _obey(self, command: pb.Command) -> bool:
        """Whether a command was carried out; one that the policy does not name is not."""
        word = {pb.WAKE: "wake", pb.CANCEL: "cancel"}.get(command.order)
        if word not in self._obeyed():
            log.warning("the hub's command %s is not allowed here", word or command.order)
            return False
        log.info("the hub says: %s", word)
        if word == "wake":
            self._wake()
        elif command.study and self.courses.work().study == command.study:
            self._cancel()
        return True

    def _obeyed(self) -> tuple[str, ...]:
        """The commands that the site's file allows at this moment; none where it cannot be read."""
        try:
            return read_site(self._site.path, state=self._site.state).file.policy.commands
        except (Problem, OSError):
            return ()

    def _renewed(self, channel: grpc.Channel) -> bool:
        """Asks for a new certificate for the same key; whether it came."""
        renew = channel.unary_unary(
            f"/{SERVICE}/{RENEW}",
            request_serializer=pb.CertificateRequest.SerializeToString,
            response_deserializer=pb.Certificate.FromString,
        )
        request = pki.new_request(self._site.name, pki.read_key(self._site.key))
        try:
            given = renew(pb.CertificateRequest(request=request), timeout=READY_SECONDS)
            until = keep_certificate(self._site, given.certificate).not_valid_after_utc
        except (grpc.RpcError, Problem) as error:
            left = pki.read_certificate(self._site.certificate).not_valid_after_utc - datetime.now(UTC)
            self._renew_at = datetime.now(UTC) + min(RENEWAL_PAUSE, max(left, timedelta()) / 10)
            log.warning("the certificate could not be renewed: %s", _reason(error))
            return False
        log.info("the certificate is renewed; good until %s", until.isoformat(timespec="minutes"))
        return True


class Tally:
    """What was said on one connection: how much, and a digest of every byte, for the sent-ledger."""

    def __init__(self, sent: Chain) -> None:
        self._sent = sent
        self._clear()

    def counted(self, message: pb.FromNode) -> bytes:
        data: bytes = message.SerializeToString()
        self._kinds[str(message.WhichOneof("said"))] += 1
        self._bytes += len(data)
        self._hash.update(data)
        return data

    def note(self) -> None:
        """One line for what was said since the line before."""
        kinds = dict(sorted(self._kinds.items()))
        if not kinds:
            return
        self._sent.append(
            {
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "what": "control",
                "messages": sum(kinds.values()),
                "bytes": self._bytes,
                "sha256": self._hash.hexdigest(),
                "detail": kinds,
            }
        )
        self._clear()

    def _clear(self) -> None:
        self.since = time.monotonic()
        self._kinds: Counter[str] = Counter()
        self._bytes = 0
        self._hash = hashlib.sha256()


def software() -> str:
    """Names and versions of what runs here, as a greeting carries them."""
    return f"polyward {version('polyward')}, flwr {version('flwr')}, python {platform.python_version()}"


def _reason(error: Exception) -> str:
    if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.PERMISSION_DENIED:
        return "the hub refuses this node's certificate: it was revoked or replaced; ask the coordinator"
    if isinstance(error, grpc.FutureTimeoutError):
        return "cannot be reached"
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return str(error.code())
    return str(error)
